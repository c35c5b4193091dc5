"""``fsa benchmark`` on a tiny generated task: whole, killed, with a failing student; and its parts."""

from __future__ import annotations

import json
import math
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fsa_base.errors import DataError, FsaError, SettingError
from fsa_jax.benchmark import tables
from fsa_jax.benchmark.flow import RESULTS, Benchmark
from fsa_jax.benchmark.jobs import Job, load_dataset
from fsa_jax.benchmark.overlap import find_overlaps
from fsa_jax.benchmark.predict_runs import stored_predictions, subsets_of
from fsa_jax.benchmark.settings import BenchmarkSettings, record_settings
from fsa_jax.benchmark.students import Student, read_students
from fsa_jax.common.records import LabelledAspect, LabelledSentence
from fsa_jax.common.terminal import console
from fsa_jax.demo import train_vocabulary
from fsa_jax.evaluation.prediction_runs import RunRecord, read_run, read_scored_run, scored_folders
from fsa_jax.evaluation.released_rule import tuple_f1
from fsa_jax.synthetic.files import TEACHER_FILE, generate
from fsa_jax.synthetic.oracle import Oracle
from fsa_jax.synthetic.world import SplitSizes

TINY = """
from __gin__ import dynamic_registration

from fsa_base.networks.t5 import network

include "gin/models/t5.gin"

network.T5Config:
  dtype = "float32"
  emb_dim = 16
  num_heads = 2
  num_encoder_layers = 1
  num_decoder_layers = 1
  head_dim = 8
  mlp_dim = 32
  mlp_activations = ("gelu", "linear")
  logits_via_embedding = True
"""


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Generated sentences, a vocabulary of 512 ids and a network of 10,000 parameters."""
    root = tmp_path_factory.mktemp("world")
    generate(root / "data", 0, 300, SplitSizes(train=48, dev=20, test=30, hard_test=30), Oracle(0, 0.05, 0.05))
    train_vocabulary.train(root / "data" / TEACHER_FILE, 411, root / "vocabulary" / "spiece.model")
    (root / "tiny.gin").write_text(TINY)
    (root / "broken.gin").write_text(TINY.replace("emb_dim = 16", 'emb_dim = "wide"'))
    return root


def command(world: Path, output: Path) -> subprocess.Popen[str]:
    words = [sys.executable, "-m", "fsa_jax.cli.main", "benchmark", "--task", "rest14", "--epochs", "2"]
    words += ["--student", "tiny=scratch:tiny.gin", "broken=scratch:broken.gin", "--seed", "1", "2"]
    words += ["--data", "data", "--vocabulary", "vocabulary/spiece.model", "--learning-rate", "0.01"]
    words += ["--workers", "1", f"--output={output}"]
    environment = {**os.environ, "XLA_FLAGS": ""}
    pipe = subprocess.PIPE
    return subprocess.Popen(words, cwd=world, env=environment, stdout=pipe, stderr=subprocess.STDOUT, text=True)


def finished(process: subprocess.Popen[str]) -> tuple[int, str]:
    output, _ = process.communicate(timeout=500)
    return process.returncode, output


def numbers(output: Path) -> dict[str, Any]:
    """What must not depend on stops: losses, scores and predictions of every run, and the table."""
    found: dict[str, Any] = {"table": json.loads((output / RESULTS).read_text())}
    for folder in scored_folders(output):
        run = read_scored_run(folder)
        record = run.run
        name = str(folder.relative_to(output))
        found[name] = (record.losses, record.validation_f1, record.best_epoch, run.predictions)
    return found


@pytest.fixture(scope="module")
def undisturbed(world: Path) -> Path:
    output = world / "undisturbed"
    status, printed = finished(command(world, output))
    assert status == 1, printed  # one student is broken
    assert "FAILED: broken" in printed
    return output


def test_every_number_can_be_computed_from_the_stored_predictions(undisturbed: Path):
    line = json.loads((undisturbed / RESULTS).read_text())[0]
    folders = scored_folders(undisturbed)
    assert [folder.name for folder in folders] == ["seed-1", "seed-2"]
    for place, folder in enumerate(folders):
        scored = read_scored_run(folder)
        assert len(scored.predictions) == 60
        assert {p.subsets[0] for p in scored.predictions} == {"all"}
        for subset, score in line["scores"].items():
            own = scored.of_subset(subset)
            expected = 100 * tuple_f1([p.gold for p in own], [p.predicted for p in own]).f1
            assert score["f1"][place] == pytest.approx(expected)
            assert score["sentences"] == len(own)
        assert scored.run.epochs == 2
        assert len(scored.run.losses) == 2 * 48 // 16
        assert scored.run.losses[0] > scored.run.losses[-1]
        assert not list(folder.glob("checkpoint_*"))


def test_a_failed_student_is_an_error_in_the_table_and_the_others_go_on(undisturbed: Path):
    tiny, broken = json.loads((undisturbed / RESULTS).read_text())
    assert (tiny["student"], tiny["errors"], tiny["seeds"]) == ("tiny", {}, [1, 2])
    assert set(broken["errors"]) == {"1", "2"}
    assert (broken["seeds"], broken["scores"]) == ([], {})
    assert "emb_dim" in broken["errors"]["1"]


@pytest.mark.skipif(os.environ.get("FAULTS") != "long", reason="takes a quarter of an hour; FAULTS=long runs it")
def test_a_benchmark_that_is_killed_gives_the_same_numbers(world: Path, undisturbed: Path):
    """SIGKILL after random times, until it ends; FAULTS_SEED=1 draws others."""
    draw = random.Random(int(os.environ.get("FAULTS_SEED", "0")))
    output = world / "killed"
    for _ in range(10):
        process = command(world, output)
        time.sleep(draw.uniform(5, 80))
        process.send_signal(signal.SIGKILL)
        process.communicate()
    finished(command(world, output))
    assert numbers(output) == numbers(undisturbed)


def test_another_recipe_is_refused_in_the_same_folder(tmp_path: Path):
    settings = BenchmarkSettings(tasks=("atsa/rest14",))
    record_settings(tmp_path, settings, {"a": {"weights": "1"}}, [], {"atsa/rest14": {"test.json": "1"}})
    record_settings(tmp_path, settings.model_copy(update={"seeds": (1,)}), {"b": {"weights": "2"}}, [])
    with pytest.raises(SettingError, match="epochs = 3"):
        record_settings(tmp_path, settings.model_copy(update={"epochs": 3}), {}, [])
    with pytest.raises(SettingError, match="student a"):
        record_settings(tmp_path, settings, {"a": {"weights": "other"}}, [])
    with pytest.raises(SettingError, match="task atsa/rest14"):
        record_settings(tmp_path, settings, {}, [], {"atsa/rest14": {"test.json": "other"}})
    with pytest.raises(SettingError, match="engine flags"):
        record_settings(tmp_path, settings, {}, ["--gin.DROPOUT_RATE=0.0"])


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"seeds": (1, 1)}, "--seed"),
        ({"seeds": ()}, "--seed"),
        ({"train_shares": (0.0,)}, "--train-share"),
        ({"train_shares": (1.5,)}, "--train-share"),
        ({"learning_rates": (-1.0,)}, "--learning-rate"),
        ({"epochs": 0}, "--epochs"),
        ({"together": 0}, "--together"),
    ],
)
def test_unusable_settings_name_their_option(settings: dict[str, Any], named: str):
    with pytest.raises(SettingError, match=named):
        BenchmarkSettings(**{"tasks": ("atsa/rest14",), **settings}).check()


@pytest.mark.parametrize("word", ["=runs/x", "a/b=runs/x", "x=", "../x=scratch:tiny.gin", "x=scratch:nothing.gin"])
def test_unusable_students_are_errors(world: Path, word: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(world)
    with pytest.raises(FsaError):
        read_students([word], world / "vocabulary" / "spiece.model")


def test_flags_may_not_bind_what_options_are_for(world: Path, tmp_path: Path):
    settings = BenchmarkSettings(tasks=("atsa/rest14",))
    with pytest.raises(SettingError, match="--learning-rate"):
        Benchmark(tmp_path, [], [], settings, flags=["--gin.LEARNING_RATE=1.0"], console=console())
    with pytest.raises(SettingError, match="--workers"):
        Benchmark(tmp_path, [], [], settings, workers=-1, console=console())


def test_an_edited_gin_file_is_another_recipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    settings = BenchmarkSettings(tasks=("atsa/rest14",))
    Path("mine.gin").write_text("DROPOUT_RATE = 0.0\n")
    record_settings(tmp_path, settings, {}, ["--gin_file=mine.gin"])
    record_settings(tmp_path, settings, {}, ["--gin_file=mine.gin", "--gin.train/utils.DatasetConfig.batch_size=3"])
    Path("mine.gin").write_text("DROPOUT_RATE = 0.5\n")
    with pytest.raises(SettingError, match="gin files"):
        record_settings(tmp_path, settings, {}, ["--gin_file=mine.gin"])


def test_one_learning_rate_of_a_cell_is_final(world: Path, tmp_path: Path):
    dataset = load_dataset(world / "data", "atsa/rest14")
    settings = BenchmarkSettings(tasks=(dataset.name,), seeds=(1,))
    student = Student("tiny", "scratch:tiny.gin", ("tiny.gin",))
    first, second = (Job(tmp_path, student, dataset, 1.0, rate, (1,), settings) for rate in (0.1, 0.01))
    benchmark = Benchmark(tmp_path, [student], [dataset], settings, console=console())
    for job in (first, second):
        job.folder(1).mkdir(parents=True)
        (job.folder(1) / "result.json").write_text("{}")
    (first.folder(1) / "predictions.jsonl").write_text("{}")
    (second.folder(1) / "checkpoint_3").mkdir()
    benchmark._retire([second])
    assert scored_folders(tmp_path) == []
    assert second.is_trained
    (second.folder(1) / "checkpoint_3").rmdir()
    benchmark._retire([second])
    assert not second.is_trained  # its weights are gone, so it must be trained again
    benchmark._retire([first])
    assert scored_folders(tmp_path) == [first.folder(1)]


def test_a_training_that_diverged_is_stored_and_read(tmp_path: Path):
    key = {"student": "a", "task": "atsa/rest14", "learning_rate": 0.1, "seed": 1}
    record = RunRecord(**key, losses=(1.5, float("nan"), float("inf")))
    (tmp_path / "run.json").write_text(record.model_dump_json())
    losses = read_run(tmp_path).losses
    assert (losses[0], losses[2]) == (1.5, float("inf"))
    assert math.isnan(losses[1])


@given(st.lists(st.sampled_from(["1", "2", "1-2", "1-3", "a"]), min_size=1, max_size=8))
def test_every_prediction_has_its_own_id(ids: list[str]):
    sentences = [sentence("the pizza", id=name) for name in ids]
    found = [prediction.id for prediction in stored_predictions("atsa", sentences, [""] * len(ids))]
    assert len(set(found)) == len(ids)
    assert [name for name, first in zip(found, ids, strict=True) if name == first][:1] == ids[:1]


def test_two_students_of_one_name_are_an_error(world: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(world)
    with pytest.raises(SettingError, match="twice"):
        read_students(["a=scratch:tiny.gin"] * 2, world / "vocabulary" / "spiece.model")


def test_a_job_counts_the_steps_of_its_share(world: Path, tmp_path: Path):
    dataset = load_dataset(world / "data", "atsa/rest14")
    settings = BenchmarkSettings(tasks=(dataset.name,), epochs=3, batch_size=16)
    job = Job(tmp_path, Student("tiny", "scratch:tiny.gin", ("tiny.gin",)), dataset, 0.5, 0.01, (1,), settings)
    assert (job.training_sentences, job.epoch_steps, job.steps) == (24, 1, 3)
    words = job.command([]).words
    assert "--gin.TRAIN_SHARE=0.5" in words
    assert "--gin.TRAIN_STEPS=3" in words
    assert words[-2:] == ("--seeds=1", "--together=1")


def sentence(text: str, *aspects: LabelledAspect, hard: bool = False, id: str = "1") -> LabelledSentence:
    return LabelledSentence(id=id, text=text, aspects=aspects, hard=hard)


def test_predictions_are_read_by_the_released_rule():
    pizza = LabelledAspect(target="pizza", polarity="positive", start=4, end=9, opinion_words=("good",))
    waiter = LabelledAspect(target="waiter", polarity="negative", start=15, end=21, opinion_words=())
    sentences = [
        sentence("the pizza, the waiter", pizza, waiter),
        sentence("the pizza", pizza, hard=True),
    ]
    generated = ["pizza | positive ; wine | negative ; pizza | positive", "pizza | great"]
    first, second = stored_predictions("atsa", sentences, generated)
    assert first.predicted == (("pizza", "positive"), ("pizza", "positive"))
    assert first.gold == (("pizza", "positive"), ("waiter", "negative"))
    assert first.subsets == ("all", "original", "implicit", "multi")
    assert second.predicted == ()
    assert second.subsets == ("all", "hard")
    assert (first.id, second.id) == ("1", "1-2")


def test_sentences_without_annotated_opinion_words_are_not_called_implicit():
    unknown = LabelledAspect(target="pizza", polarity="positive", start=4, end=9)
    assert subsets_of(sentence("the pizza", unknown)) == ("all", "original")


def test_overlaps_are_found_whatever_the_case_and_the_punctuation():
    sentences = ["The pizza was cold, and late.", "Great food!", "We waited an hour for a table by the window."]
    reviews = ["never. THE PIZZA was cold and late! we left", "we waited an hour for our bill", "great food"]
    found = find_overlaps(sentences, reviews)
    assert found.found == {sentences[0]}
    assert (found.reviews, found.sentences, found.too_short) == (3, 3, 1)


@given(st.lists(st.sampled_from("abcdefghij"), min_size=4, max_size=20), st.lists(st.sampled_from("xyz"), max_size=5))
def test_a_quoted_sentence_is_always_found(words: list[str], around: list[str]):
    text = " ".join(words)
    assert find_overlaps([text], [" ".join([*around, *words, *around])]).found == {text}


def test_missing_results_are_said_never_blank():
    base = {"task": "atsa/laptop14", "share": 1.0, "learning_rate": 0.1, "without_overlap": {}, "scores": {}}
    lines = [
        tables.Line(student="a", seeds=(1,), errors={}, validation=(50.0,), **base),
        tables.Line(student="b", seeds=(), errors={1: "no memory"}, validation=(), **base),
    ]
    cells = [list(column.cells) for column in tables.shown(lines).columns]
    assert cells[2] == ["1", "0, 1 FAILED"]
    assert cells[4] == ["no test data", "no run"]


def test_a_damaged_prediction_names_its_line(undisturbed: Path, tmp_path: Path):
    folder = scored_folders(undisturbed)[0]
    lines = (folder / "predictions.jsonl").read_text().splitlines()
    (tmp_path / "run.json").write_text((folder / "run.json").read_text())
    (tmp_path / "predictions.jsonl").write_text("\n".join([*lines[:3], lines[3][:-9]]))
    with pytest.raises(DataError, match=r"predictions\.jsonl:4"):
        read_scored_run(tmp_path)
