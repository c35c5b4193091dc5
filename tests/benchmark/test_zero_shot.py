"""Zero-shot classification from the command to its files, with students that know nothing and one that was taught."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

from fsa_base.errors import DataError, MissingDataError, SettingError
from fsa_jax.benchmark import zero_shot_run
from fsa_jax.benchmark.zero_shot import examples_of
from fsa_jax.benchmark.zero_shot_run import evaluate, load_task, recompute
from fsa_jax.benchmark.zero_shot_students import load_named, split_name
from fsa_jax.benchmark.zero_shot_tables import read_runs
from fsa_jax.cli import main as cli
from fsa_jax.common.records import LabelledAspect, LabelledSentence, Polarity
from fsa_jax.evaluation.polarity_predictions import answers
from fsa_jax.tokenizers.t5 import T5Tokenizer
from fsa_jax.weights.weight_checkpoints import save_weights
from tests.serving.conftest import train_vocabulary, trained_parameters

WORDS = {"positive": "great", "negative": "terrible", "neutral": "ordinary"}
TARGETS = ("food", "staff", "menu", "place")


def sentence(target: str, polarity: str) -> str:
    return f"The {target} was {WORDS[polarity]}."


@pytest.fixture(scope="module")
def vocabulary(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train_vocabulary(tmp_path_factory.mktemp("vocabulary"))


@pytest.fixture(scope="module")
def taught(vocabulary: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A student that writes the analyses of twelve sentences."""
    cases = [(target, polarity) for target in TARGETS for polarity in WORDS]
    texts = [sentence(*case) for case in cases]
    written = [
        f'Opinion Target 1: "{target}"\nAspect: Food\nSentiment: {polarity.title()}\n' for target, polarity in cases
    ]
    parameters = trained_parameters(T5Tokenizer(vocabulary), texts, written, steps=250)
    return save_weights(tmp_path_factory.mktemp("taught"), 1, parameters).parent


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A rest14 whose original sentences the taught student knows, and a rest16 with two categories."""
    rows = [row(i, sentence(target, polarity), [(target, polarity)]) for i, (target, polarity) in enumerate(cases())]
    hard = [row(0, "The food was great and the staff terrible.", [("food", "positive"), ("staff", "negative")])]
    hard += [row(1, "The menu, the menu!", [("menu", "conflict")])]
    write(tmp_path, "atsa/rest14", "test", rows)
    write(tmp_path, "atsa/rest14", "hard_test", hard)
    categories = [row(0, "The food was great.", [("food", "positive")], category="FOOD#QUALITY")]
    write(tmp_path, "acsa/rest16", "test", categories)
    write(tmp_path, "acsa/rest16", "hard_test", categories)
    return tmp_path


def cases() -> list[tuple[str, str]]:
    return [(target, polarity) for target in TARGETS for polarity in WORDS]


def row(number: int, text: str, labels: list[tuple[str, str]], category: str | None = None) -> dict[str, Any]:
    aspects = [
        {"target": target, "category": category, "polarity": polarity, "opinion_words": []}
        for target, polarity in labels
    ]
    return {"ID": f"test:{number}", "sentence": text, "aspects": aspects}


def write(data: Path, dataset: str, part: str, rows: list[dict[str, Any]]) -> None:
    folder = data / "fsa" / dataset
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{part}.json").write_text(json.dumps(rows))


def test_a_taught_student_is_right_and_its_files_give_the_tables_again(taught, vocabulary, data, tmp_path, capsys):
    output = tmp_path / "out"
    arguments = ["zero-shot", f"taught={taught}", "--task", "rest14", "rest16", "--forms", "analysis-aspect"]
    arguments += ["--data", data, "--vocabulary", vocabulary, "--output", output]
    assert cli.main([str(argument) for argument in arguments]) == 0
    shown = capsys.readouterr()
    assert "atsa/rest14: 14 labels; left out: 1 conflict" in shown.err
    assert "its own prior" in shown.out and "macro F1 (all)" in shown.out
    results = json.loads((output / "results.json").read_text())
    again = json.loads(json.dumps(dataclasses.asdict(recompute(output))))
    assert {name: results[name] for name in again} == again
    scores = {(one["student"], one["task"], one["subset"]): one for one in results["scores"]}
    assert scores["taught", "atsa/rest14", "original"]["scores"]["accuracy"]["mean"] == 1
    assert scores["taught", "atsa/rest14", "original"]["mass"] > 0.9
    assert scores["taught-untrained", "atsa/rest14", "original"]["scores"]["accuracy"]["mean"] < 0.8
    against = {(one["other"], one["subset"]): one["differences"] for one in results["differences"]}
    assert against["its own prior", "original"]["macro F1"]["low"] > 0
    assert against["taught-untrained", "original"]["macro F1"]["low"] > 0
    runs = read_runs(output)
    assert set(runs) == {(s, t) for s in ("taught", "taught-untrained") for t in ("atsa/rest14", "acsa/rest16")}
    for prediction in runs["taught", "atsa/rest14"]:
        for name in ("uncalibrated", "prior", "calibrated"):
            assert sum(prediction.mean(name).values()) == pytest.approx(1)
    assert [one.category for one in runs["taught", "acsa/rest16"]] == ["FOOD#QUALITY"] * 2
    assert cli.main([str(argument) for argument in arguments]) == 2, "a finished output is not replaced"


def test_a_stopped_evaluation_goes_on(taught, vocabulary, data, tmp_path, monkeypatch):
    students = [
        load_named(f"a={taught}", vocabulary=vocabulary),
        load_named(f"b=scratch:{taught}", vocabulary=vocabulary),
    ]
    tasks = [load_task("rest14", "hard", data)]
    whole = evaluate(students, tasks, tmp_path / "whole", forms=["analysis"])
    made: list[str] = []
    real = zero_shot_run.ZeroShot.predict

    def stop(self: Any, examples: Any, student: str, task: str) -> Any:
        if made.append(student) or made == ["a", "b"]:
            raise KeyboardInterrupt
        return real(self, examples, student, task)

    monkeypatch.setattr(zero_shot_run.ZeroShot, "predict", stop)
    with pytest.raises(KeyboardInterrupt):
        evaluate(students, tasks, tmp_path / "out", forms=["analysis"])
    found = evaluate(students, tasks, tmp_path / "out", forms=["analysis"])
    assert made == ["a", "b", "b"]
    assert found == whole


def test_a_question_that_is_asked_twice_has_one_answer(taught, vocabulary, data):
    """Answers do not depend on the other examples."""
    student = load_named(str(taught), vocabulary=vocabulary)
    task = load_task("rest14", "original", data)
    repeated = dataclasses.replace(task, examples=(task.examples[0], *task.examples[::-1]))
    first = evaluate([student], [task], forms=["analysis"]).runs[student.name, task.name]
    second = evaluate([student], [repeated], forms=["analysis"]).runs[student.name, task.name]
    assert second[0] == second[-1]
    for one, other in zip(first, second[:0:-1], strict=True):
        assert one.forms["analysis"].calibrated == pytest.approx(other.forms["analysis"].calibrated, abs=1e-4)
    assert answers(first, "uncalibrated") == answers(second[:0:-1], "uncalibrated")


def test_an_untrained_student_of_a_gin_file(vocabulary, tmp_path):
    file = tmp_path / "t5_own.gin"
    sizes = "emb_dim = 16\n  num_heads = 2\n  num_encoder_layers = 1\n  num_decoder_layers = 2\n  mlp_dim = 24"
    file.write_text(f'include "gin/models/t5.gin"\nVOCABULARY_ROWS = 256\nnetwork.T5Config:\n  {sizes}\n')
    student = load_named(f"scratch:{file}", vocabulary=vocabulary)
    assert student.scratch and student.name == "scratch-t5_own"
    config = student.student.config
    assert (config.vocab_size, config.num_decoder_layers, config.head_dim) == (256, 2, 64)
    with pytest.raises(MissingDataError):
        load_named("scratch:gin/models/t5_none.gin")
    with pytest.raises(SettingError, match="decoder-only"):
        load_named("scratch:gin/models/chat.gin")


def labelled(*labels: tuple[str | None, Polarity]) -> LabelledSentence:
    return LabelledSentence(
        id="7", text="x", aspects=tuple(LabelledAspect(target=target, polarity=polarity) for target, polarity in labels)
    )


def test_labels_that_are_left_out_are_counted():
    labels: list[tuple[str | None, Polarity]] = [
        ("a", "positive"),
        ("a", "positive"),
        ("b", "positive"),
        ("b", "negative"),
        (None, "negative"),
    ]
    examples, left_out = examples_of([labelled(*labels, ("c", "conflict"), ("d", "conflict"))], "atsa", "here")
    assert [(example.target, example.gold) for example in examples] == [("a", "positive")]
    assert left_out == {"repeated": 1, "several polarities of one target": 2, "without a target": 1, "conflict": 2}
    assert len(labels) + 2 == len(examples) + left_out.total()


def test_acsa_data_without_categories_is_an_error():
    with pytest.raises(DataError, match="sentence 7"):
        examples_of([labelled(("a", "positive"))], "acsa", "acsa/mine")


def test_nothing_but_conflicts_is_an_error():
    with pytest.raises(DataError, match="1 conflict"):
        examples_of([labelled(("a", "conflict"))], "atsa", "here")


def test_unknown_tasks_are_an_error_that_lists_the_known_ones(data, tmp_path):
    with pytest.raises(SettingError, match="acsa/rest16"):
        load_task("rest15", "test", data)
    with pytest.raises(MissingDataError):
        load_task("rest14", "dev", data)
    with pytest.raises(MissingDataError, match="labelled sentences"):
        load_task("rest14", "test", tmp_path / "empty")
    assert load_task("fsa_atsa_rest14", "hard", data).name == "atsa/rest14"
    file = data / "fsa/acsa/rest16/test.json"
    assert load_task(str(file), "test", data).examples[0].category == "FOOD#QUALITY"


@pytest.mark.parametrize(
    ("trained_for", "forms"),
    [("fsa_distill", 3), ("fsa_rewriting", 1), ("fsa_analysis", 2), ("fsa_chat_corpus", 3), ("fsa_atsa_rest14", 0)],
)
def test_a_student_is_asked_in_the_forms_that_it_was_taught(trained_for, forms, taught, vocabulary, tmp_path, data):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "checkpoint_1").symlink_to(taught / "checkpoint_1")
    (tmp_path / "run" / "config.gin").write_text(f"MIXTURE_OR_TASK_NAME = '{trained_for}'\n")
    if not forms:
        with pytest.raises(SettingError, match=f"trained for {trained_for}"):
            load_named(str(tmp_path / "run"), vocabulary=vocabulary)
        return
    student = load_named(str(tmp_path / "run"), vocabulary=vocabulary)
    assert len(student.forms) == forms
    if forms == 1:
        with pytest.raises(SettingError, match="distilled from analyses"):
            evaluate([student], [load_task("rest14", "hard", data)], forms=["analysis"])


def test_names():
    assert split_name("a=b/c") == ("a", "b/c")
    assert split_name("runs/a@best") == ("a", "runs/a@best")
    assert split_name("scratch:runs/a/") == ("scratch-a", "scratch:runs/a/")
    assert split_name("b c=d") == ("b-c-d", "b c=d")


def test_two_students_of_one_name_are_an_error(taught, vocabulary, data):
    student = load_named(str(taught), vocabulary=vocabulary)
    with pytest.raises(SettingError, match="different names"):
        evaluate([student, student], [load_task("rest14", "hard", data)])


def test_a_call_without_a_task_is_an_error(taught, capsys):
    assert cli.main(["zero-shot", str(taught)]) == 2
    assert "--task" in capsys.readouterr().err
