"""``fsa train``: from options and data to the command of the engine."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hf_models import T5, write_model
from stand_in_hub import Repository, connected_hub

from fsa_base.errors import CheckpointError, MissingDataError, SettingError
from fsa_jax.cli.option_spelling import spelt_out
from fsa_jax.cli.train import command
from fsa_jax.common.shell_words import quoted
from fsa_jax.training import earlier_run, found_data, run_record, starting_point
from fsa_jax.training.engine_command import EngineCommand
from fsa_jax.training.starting_point import StartingPoint
from fsa_jax.training.train_command import TrainOptions, train_command

ROOT = Path(__file__).parents[2]
SENTENCE = {"ID": "1", "sentence": "The tea was great.", "aspects": []}


def write_labels(root: Path, name: str, train: int, dev: int) -> None:
    folder = root / "fsa" / name
    folder.mkdir(parents=True)
    for file, count in (("train", train), ("dev", dev)):
        (folder / f"{file}.json").write_text(json.dumps([SENTENCE] * count))


@pytest.fixture(autouse=True)
def _alone(monkeypatch, tmp_path):
    """No vocabulary and no runs of this machine."""
    for name in ("FSA_VOCAB", "FSA_DATA_DIR", "FSA_STUDENT"):
        monkeypatch.delenv(name, raising=False)
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")


@pytest.fixture
def data(tmp_path) -> Path:
    """A folder with a corpus, teacher text and two label sets."""
    root = tmp_path / "data"
    for form in found_data.FORMS:
        (root / "corpus" / "sentiment_corpus" / form).mkdir(parents=True)
    (root / "teacher").mkdir()
    (root / "teacher" / "a.jsonl").touch()
    write_labels(root, "atsa/rest14", 100, 33)
    write_labels(root, "acsa/rest16", 40, 20)
    return root


def build(data: Path, start: StartingPoint | None = None, **options: Any) -> EngineCommand:
    return train_command(TrainOptions(student="s", **options), found_data.find(data), start)


def test_fsa_train_distils_from_a_corpus(data):
    engine = build(data, size="10m", steps=50, batch_size=4, learning_rate=0.01, seed=7, engine_flags=["--verbose"])
    assert str(engine).partition(" -m ")[2] == (
        """t5x.train --gin_file=gin/distill_10m.gin "--gin.MODEL_DIR='runs/s'" """
        """"--gin.MIXTURE_OR_TASK_NAME='fsa_corpus'" --gin.TRAIN_STEPS=50 --gin.PERIOD=50 --gin.BATCH_SIZE=4 """
        "--gin.LEARNING_RATE=0.01 --gin.RANDOM_SEED=7 --verbose"
    )
    assert str(engine).startswith(f"FSA_DATA_DIR={data} ")
    assert "PERIOD" not in build(data, size="base", steps=50).bindings


@pytest.mark.parametrize(("batch", "epoch", "dev"), [(None, 6, 2), (4, 25, 8), (500, 1, 1)])
def test_the_steps_of_fine_tuning_fit_the_labels(data, batch, epoch, dev):
    engine = build(data, size="60m", task="rest14", batch_size=batch)
    assert engine.gin_files == ["gin/finetune_60m.gin"]
    expected = {"MIXTURE_OR_TASK_NAME": "fsa_atsa_rest14", "BEST_BY": "inference_eval/fsa_atsa_rest14/f1"}
    expected |= {"TRAIN_STEPS": 20 * epoch, "EVAL_PERIOD": epoch, "EVAL_STEPS": dev}
    assert expected.items() <= engine.bindings.items()


def test_fewer_steps_than_an_epoch_are_evaluated_once(data):
    bindings = build(data, size="10m", task="fsa_acsa_rest16", steps=1).bindings
    assert (bindings["TRAIN_STEPS"], bindings["EVAL_PERIOD"]) == (1, 1)


def test_the_released_labels_have_the_steps_of_the_recipe(real_data_dir):
    bindings = build(real_data_dir, size="base", task="rest14").bindings
    assert [bindings[name] for name in ("TRAIN_STEPS", "EVAL_PERIOD", "EVAL_STEPS")] == [3040, 152, 38]


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({}, r"--size: expected 10m \(2 CPU cores\), 60m"),
        ({"size": "10m", "stage": "finetune"}, "--task: expected rest16 or rest14"),
        ({"size": "10m", "task": "rst14"}, "--task: .*near 'rest14'"),
        ({"size": "100m"}, "--size: .*near '10m'"),
        ({"size": "10m", "steps": 0}, "--steps: expected a whole number above 0"),
        ({"size": "10m", "task": "rest14", "stage": "distill"}, "--stage finetune"),
    ],
)
def test_options_that_do_not_fit_are_errors(data, options, complaint):
    with pytest.raises(SettingError, match=complaint):
        build(data, **options)


def test_the_parts_of_a_data_directory_are_accepted(data, tmp_path):
    for part in ("corpus", "corpus/sentiment_corpus", "teacher", "fsa", ""):
        assert found_data.find(data / part).root == data
    lone = tmp_path / "out"
    (lone / "sentiment_corpus" / "analysis").mkdir(parents=True)
    found = found_data.find(lone)
    assert (found.root, found.mixture) == (lone, "fsa_corpus_analysis")
    assert build(lone, size="10m").bindings["MIXTURE_OR_TASK_NAME"] == "fsa_corpus_analysis"
    with pytest.raises(SettingError, match="--stage finetune: expected labelled sentences"):
        build(lone, size="10m", stage="finetune")


@pytest.mark.parametrize("found", ["nothing", "an empty folder", "reviews.parquet"])
def test_a_folder_without_data_is_an_error_that_says_what_is_there(found, tmp_path):
    folder = tmp_path / "x"
    if found != "nothing":
        folder.mkdir()
        (folder / found).touch() if "." in found else None
    with pytest.raises(MissingDataError, match=f"found {found}"):
        found_data.find(folder)


def test_the_rows_of_another_vocabulary_are_set(data, old_vocabulary):
    engine = build(data, size="10m", vocabulary=old_vocabulary)
    assert engine.bindings["VOCABULARY_ROWS"] == 384
    assert engine.environment["FSA_VOCAB"] == str(old_vocabulary)


def test_t5s_vocabulary_needs_no_setting(data, real_data_dir):
    engine = build(data, size="10m", vocabulary=real_data_dir / "t5_vocab" / "spiece.model")
    assert "VOCABULARY_ROWS" not in engine.bindings


@pytest.fixture
def old_vocabulary(tmp_path) -> Path:
    """A SentencePiece model whose student has 384 rows."""
    import tarfile

    with tarfile.open(ROOT / "tests" / "testdata" / "v528859f" / "spiece.model.tar.xz") as archive:
        archive.extractall(tmp_path, filter="data")
    return tmp_path / "spiece.model"


def write_run(directory: Path, task: str, **macros: Any) -> None:
    (directory / "checkpoint_7" / "state").mkdir(parents=True)
    network = starting_point.recipes.SIZES["10m"].network
    lines = [f"{name} = {value!r}" for name, value in {"MIXTURE_OR_TASK_NAME": task, **macros}.items()]
    lines += [f"network.T5Config.{name} = {value!r}" for name, value in network.items()]
    (directory / "config.gin").write_text("\n".join(lines) + "\n")


def test_the_size_and_the_vocabulary_of_the_starting_point_are_used(data, old_vocabulary):
    write_run(Path("runs/first"), "fsa_corpus")
    run_record.write("runs/first", {"FSA_VOCAB": str(old_vocabulary), "FSA_DATA_DIR": "data"})
    for where in ("first", "runs/first", "runs/first@newest", "runs/first/checkpoint_7"):
        start = starting_point.find(where)
        assert start.checkpoint == Path("runs/first/checkpoint_7") and start.size == "10m"
    engine = build(data, start, task="rest14")
    assert engine.gin_files == ["gin/finetune_10m.gin"]
    assert engine.bindings["INITIAL_CHECKPOINT_PATH"] == "runs/first/checkpoint_7"
    assert engine.environment["FSA_VOCAB"] == str(old_vocabulary)
    with pytest.raises(SettingError, match="its size is 10m"):
        build(data, start, size="base")
    with pytest.raises(CheckpointError, match="neither that nor runs/scond"):
        starting_point.find("scond")
    with pytest.raises(CheckpointError, match="found nothing"):
        starting_point.find("runs/second")  # is not looked up on the Hub


def test_a_model_of_the_hub_is_imported_once(data, tmp_path):
    config = {"d_model": 192, "d_kv": 32, "d_ff": 512, "num_layers": 4, "num_heads": 6}
    write_model(tmp_path / "hf", {**T5, **config, "feed_forward_proj": "gated-gelu", "vocab_size": 32100})
    with connected_hub(tmp_path / "cache") as hub:
        files = {file.name: file.read_bytes() for file in (tmp_path / "hf").iterdir()}
        commit = hub.repositories.setdefault("models/me/student", Repository()).add(files, "upload")
        start = starting_point.find("me/student")
        again = starting_point.find(f"hf://me/student@{commit}")
    folder = Path("weights") / f"me--student--{commit[:12]}"
    assert start == again == StartingPoint(folder / "checkpoint_0", "10m", {})
    assert build(data, start).bindings["INITIAL_CHECKPOINT_PATH"] == str(folder / "checkpoint_0")


def test_another_run_of_the_same_name_is_not_continued(data, old_vocabulary):
    write_run(Path("runs/a"), "fsa_corpus")
    write_run(Path("runs/b"), "fsa_corpus")
    settings = {"LEARNING_RATE": 0.01, "BATCH_SIZE": 8, "RANDOM_SEED": 42}
    write_run(Path("runs/s"), "fsa_corpus", INITIAL_CHECKPOINT_PATH="runs/a/checkpoint_3", **settings)
    run_record.write("runs/s", {"FSA_DATA_DIR": str(data), "FSA_VOCAB": str(old_vocabulary)})
    start = starting_point.find("a")
    # The other run has been trained further meanwhile, and more steps may be asked for.
    engine = build(data, start, learning_rate=1e-2, steps=9)
    assert engine.bindings["INITIAL_CHECKPOINT_PATH"] == "runs/a/checkpoint_3"
    assert engine.environment["FSA_VOCAB"] == str(old_vocabulary)
    run = earlier_run.find("runs/s")
    assert run is not None and "continuing runs/s at step 7" in run.progress(9) and "complete" in run.progress(7)
    others: list[dict[str, Any]] = [
        {"task": "rest14"},
        {"learning_rate": 3e-2},
        {"batch_size": 4},
        {"seed": 1},
        {"vocabulary": shutil.copy(old_vocabulary, "other.model")},
        {"start": None, "size": "10m"},
        {"start": starting_point.find("b")},
        {"data": data.parent / "copy"},
    ]
    shutil.copytree(data, data.parent / "copy")
    for options in others:
        (name,) = options.keys() - {"size"}
        option = {"start": "from"}.get(name, name).replace("_", "-")
        with pytest.raises(SettingError, match=f"--student runs/s: expected a new name.*--{option} "):
            build(**{"data": data, "start": start, **options})
    with pytest.raises(SettingError, match="--steps 3: expected 7 or more"):
        build(data, start, steps=3)


def test_an_imported_model_is_not_trained_in_its_folder(data):
    (Path("runs/s/checkpoint_0/state")).mkdir(parents=True)
    with pytest.raises(SettingError, match="such as an imported model"):
        build(data, size="10m")


def test_a_run_is_preferred_to_a_folder_of_the_same_name_without_checkpoints():
    write_run(Path("runs/s"), "fsa_corpus")
    Path("s").mkdir()
    assert starting_point.find("s").checkpoint == Path("runs/s/checkpoint_7")


def test_names_with_an_option_are_not_bound_by_hand(data):
    for flag in ("--gin.MODEL_DIR='x'", "--gin_bindings=MODEL_DIR = 'x'"):
        with pytest.raises(SettingError, match="use --student"):
            build(data, size="10m", engine_flags=[flag])


def test_labels_of_ones_own_have_a_task(data, monkeypatch):
    write_labels(data, "atsa/mine", 40, 20)
    write_labels(data, "atsa/not-a-task-name", 40, 20)
    assert build(data, size="10m", task="mine").bindings["MIXTURE_OR_TASK_NAME"] == "fsa_atsa_mine"
    with pytest.raises(SettingError, match="--task"):
        build(data, size="10m", task="not-a-task-name")
    write_labels(data, "acsa/mine", 40, 20)
    with pytest.raises(SettingError, match="--task: expected acsa/mine or atsa/mine"):
        build(data, size="10m", task="mine")
    monkeypatch.setenv("FSA_DATA_DIR", str(data))
    (data / "fsa/atsa/mine/test.json").write_text(json.dumps([SENTENCE] * 3))
    names = "import tasks, seqio; print(len(list(seqio.get_mixture_or_task('fsa_atsa_mine').source.sentences('test'))))"
    run = subprocess.run([sys.executable, "-c", names], cwd=ROOT, capture_output=True, text=True, check=True)
    assert run.stdout == "3\n"


def test_a_decoder_only_student_takes_its_own_recipe(data):
    start = StartingPoint(Path("weights/qwen/checkpoint_0"), "chat", {"FSA_STUDENT": "weights/qwen"})
    engine = build(data, start)
    assert engine.gin_files == ["gin/distill_chat.gin"]
    assert engine.environment == {"FSA_DATA_DIR": str(data), "FSA_STUDENT": "weights/qwen"}
    tuned = build(data, start, task="rest14").bindings
    assert (tuned["MIXTURE_OR_TASK_NAME"], tuned["TRAIN_STEPS"]) == ("fsa_chat_atsa_rest14", 30)


def test_flags_of_the_engine_are_passed_on_and_other_words_are_not():
    words = ["--from", "x", "--gin.A='b'", "--verbose", "--batch-size", "4", "--jax_log_compiles=1", "--bach=3"]
    assert spelt_out(command, words) == [
        *["--from_", "x", "--batch_size", "4", "--bach=3"],
        """--engine_flags=["--gin.A='b'", "--verbose", "--jax_log_compiles=1"]""",
    ]


@pytest.mark.parametrize("word", ["a b", "--gin.A='b c'", "--gin.A='$HOME'", """--gin.A="'x'" """, "--gin.A={'b': 1}"])
def test_a_printed_command_can_be_typed(word):
    assert shlex.split(quoted(word)) == [word]


def test_fsa_train_becomes_the_engine(data, tmp_path):
    """A real process: the printed line, then the engine's own output and exit status."""
    words = [
        "-m",
        "fsa_jax.cli.main",
        "train",
        "--data",
        str(data),
        "--student",
        str(tmp_path / "out"),
        "--size",
        "10m",
    ]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    run = subprocess.run(
        [sys.executable, *words, "--dry-run", "--gin_file=no/such.gin"],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 2
    assert re.search(r"-m t5x.train --gin_file=gin/distill_10m.gin .* --dry_run --gin_file=no/such.gin", run.stderr)
    assert "t5x.train: --gin_file=no/such.gin: expected the gin file" in run.stderr
    assert not (tmp_path / "out").exists()
