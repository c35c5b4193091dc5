"""What is compared: students of outputs and files, gaps between their runs, and the same sentences."""

from __future__ import annotations

import json

import pytest
from comparison_outputs import predictions, write_output, write_run

from fsa_base.errors import DataError, MissingDataError, SettingError
from fsa_jax.evaluation.contestants import NO_TASK, Cell, FinalRun, aligned, find_contestants
from fsa_jax.evaluation.prediction_runs import write_predictions

REST14 = Cell("atsa/rest14", 1.0)


def seeds(student, cell=REST14):
    return [run.seed for run in student.runs[cell]]


def test_an_output_has_each_of_its_students(tmp_path):
    output = write_output(tmp_path / "out", {"scratch": 0.4, "distilled": 0.6}, seeds=(172, 42))
    found = find_contestants([str(output)])
    assert [student.name for student in found] == ["distilled", "scratch"]
    assert all(seeds(student) == [42, 172] and not student.gaps for student in found)


def test_students_are_chosen_renamed_and_told_apart(tmp_path):
    first, second = (write_output(tmp_path / name, {"a": 0.4, "b/c": 0.6}) for name in "12")
    found = find_contestants([f"{first}:b/c", f"{first}:a"])
    assert [student.name for student in found] == ["b/c", "a"]
    found = find_contestants([f"{first}:a", f"{second}:a", f"new={second}:b/c"])
    assert [student.name for student in found] == [f"{first}:a", f"{second}:a", "new"]


def test_files_with_one_name_are_runs_of_one_student(tmp_path):
    paths = [tmp_path / f"{number}=x.jsonl" for number in range(3)]
    for number, path in enumerate(paths):
        write_predictions(path, predictions(0.5, number))
    found = find_contestants([f"a={paths[0]}", f"a={paths[1]}", str(paths[2])])
    assert [(student.name, len(student.runs[Cell(NO_TASK, 1.0)])) for student in found] == [
        ("a", 2),
        (str(paths[2]), 1),
    ]


def test_files_of_runs_know_their_task_and_seed(tmp_path):
    folders = [write_run(tmp_path, student, 0.5, 52) for student in "ab"]
    files = [str(folder / "predictions.jsonl") for folder in folders]
    assert [seeds(student) for student in find_contestants(files)] == [[52], [52]]
    plain = tmp_path / "plain.jsonl"
    write_predictions(plain, predictions(0.5, 1))
    found = find_contestants([files[0], str(plain)])
    assert [list(student.runs) for student in found] == [[Cell(NO_TASK, 1.0)]] * 2


def test_runs_that_failed_or_are_missing_are_gaps(tmp_path):
    write_output(tmp_path, {"a": 0.5, "b": 0.5}, seeds=(42,))
    write_run(tmp_path, "a", 0.5, 52)
    write_run(tmp_path, "a", None, 62, error="out of memory")
    write_run(tmp_path, "b", None, 62)
    # A run of the search for the learning rate is no gap: its seed has a final run.
    write_run(tmp_path, "a", None, 42, learning_rate=1e-4)
    write_run(tmp_path, "a", None, 52, learning_rate=1e-4, error="diverged")
    found = find_contestants([str(tmp_path)])
    assert [[(gap.seed, gap.kind, gap.why) for gap in student.gaps] for student in found] == [
        [(62, "failed", "out of memory")],
        [(52, "missing", ""), (62, "unfinished", "")],
    ]


def test_planned_runs_that_were_never_started_are_gaps(tmp_path):
    write_output(tmp_path, {"a": 0.5}, seeds=(42,))
    plan = {
        "identities": {"student a": {}, "student b": {}, "task atsa/rest14": {}},
        "settings": {"tasks": ["atsa/rest14"], "train_shares": [1.0], "seeds": [42, 52]},
    }
    (tmp_path / "benchmark.json").write_text(json.dumps(plan))
    found = find_contestants([str(tmp_path)])
    assert [(student.name, [(gap.seed, gap.kind) for gap in student.gaps]) for student in found] == [
        ("a", [(52, "missing")]),
        ("b", [(42, "missing"), (52, "missing")]),
    ]
    (tmp_path / "benchmark.json").write_text('{"identities": 3}')
    with pytest.raises(DataError, match="the settings of a benchmark"):
        find_contestants([str(tmp_path)])


def test_two_final_runs_of_one_seed_are_refused(tmp_path):
    write_output(tmp_path, {"a": 0.5, "b": 0.5})
    write_run(tmp_path, "a", 0.5, 42, learning_rate=1e-4)
    with pytest.raises(DataError, match="one final run"):
        find_contestants([str(tmp_path)])


@pytest.mark.parametrize(
    ("arguments", "error", "told"),
    [
        (["{out}:c", "{out}:a"], SettingError, "one of a, b"),
        (["x={out}"], SettingError, "2: a, b"),
        (["{out}:a"], SettingError, "at least two students"),
        (["{out}:a", "{out}:a"], SettingError, "every student once"),
        (["a={file}", "a={file}"], SettingError, "every file once"),
        (["{out}/nothing", "{out}:a"], MissingDataError, "a file or folder"),
        (["{out}/nothing:a"], MissingDataError, "a file or folder"),
        (["{empty}"], MissingDataError, "no run.json"),
    ],
)
def test_unusable_arguments_are_refused(tmp_path, arguments, error, told):
    out = write_output(tmp_path / "out", {"a": 0.4, "b": 0.6})
    (tmp_path / "empty").mkdir()
    places = {"out": out, "empty": tmp_path / "empty", "file": next(out.rglob("predictions.jsonl"))}
    with pytest.raises(error, match=told):
        find_contestants([argument.format(**places) for argument in arguments])


def write(folder, name, made):
    write_predictions(folder / name, made)
    return FinalRun(folder / name, 42)


def test_predictions_are_put_into_the_order_of_the_first_run(tmp_path):
    made = predictions(0.5, 1)
    turned = [one.model_copy(update={"gold": one.gold[::-1], "subsets": one.subsets[::-1]}) for one in made[::-1]]
    one, other = aligned([write(tmp_path, "a.jsonl", made), write(tmp_path, "b.jsonl", turned)])
    assert [sentence.id for sentence in one] == [sentence.id for sentence in other] == [p.id for p in made]


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"text": "Another"}, "other text of sentence 's3': Another"),
        ({"gold": (("x", "positive"),)}, "other gold tuples of sentence 's3'"),
        ({"subsets": ("all",)}, "other subsets of sentence 's3'"),
        ({"id": "s3b"}, "2 sentences in one of them, such as 's3' in .*a.jsonl"),
    ],
)
def test_other_sentences_are_refused(tmp_path, change, told):
    made = predictions(0.5, 1)
    changed = [one.model_copy(update=change) if one.id == "s3" else one for one in made]
    with pytest.raises(DataError, match=told) as refused:
        aligned([write(tmp_path, "a.jsonl", made), write(tmp_path, "b.jsonl", changed)])
    assert refused.value.where == str(tmp_path / "b.jsonl")
