"""Stored runs of a benchmark: what is written is read again, and damaged files are clear errors."""

from __future__ import annotations

import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fsa_base.errors import DataError, FsaError, MissingDataError
from fsa_jax.evaluation.prediction_runs import (
    PREDICTIONS_FILE,
    RUN_FILE,
    RunRecord,
    SentencePrediction,
    read_predictions,
    read_run,
    read_scored_run,
    scored_folders,
    write_predictions,
)

tuples = st.lists(st.lists(st.text(max_size=5), min_size=2, max_size=4).map(tuple), max_size=3).map(tuple)
predictions = st.lists(
    st.builds(
        SentencePrediction,
        id=st.text(max_size=5),
        text=st.text(),
        gold=tuples,
        predicted=tuples,
        generated=st.text(),
        subsets=st.lists(st.sampled_from(["all", "hard", "multi"])).map(tuple),
    ),
    min_size=1,
    max_size=5,
    unique_by=lambda prediction: prediction.id,
).map(tuple)
in_one_folder = settings(max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture])


def example(sentence: str = "s1") -> SentencePrediction:
    gold = (("pizza", "positive"),)
    return SentencePrediction(
        id=sentence, text="Good pizza", gold=gold, predicted=gold, generated="pizza | positive", subsets=("all", "hard")
    )


@in_one_folder
@given(predictions)
def test_predictions_are_read_as_they_were_written(tmp_path, written):
    path = tmp_path / PREDICTIONS_FILE
    write_predictions(path, written)
    assert read_predictions(path) == written
    assert [file.name for file in tmp_path.iterdir()] == [PREDICTIONS_FILE]


@in_one_folder
@given(st.data())
def test_damaged_predictions_are_read_or_refused_with_their_place(tmp_path, data):
    path = tmp_path / PREDICTIONS_FILE
    write_predictions(path, [example("s1"), example("s2")])
    content = bytearray(path.read_bytes())
    if data.draw(st.booleans()):
        del content[data.draw(st.integers(0, len(content))) :]
    else:
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(content)
    try:
        found = read_predictions(path)
    except FsaError as error:
        assert str(path) in error.where
    else:
        assert all(isinstance(prediction, SentencePrediction) for prediction in found)


@in_one_folder
@given(st.data())
def test_a_damaged_run_is_read_or_refused_with_its_place(tmp_path, data):
    content = bytearray(
        RunRecord(student="a", task="atsa/rest14", learning_rate=3e-4, seed=42).model_dump_json(), "utf-8"
    )
    content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    (tmp_path / RUN_FILE).write_bytes(content)
    try:
        assert isinstance(read_run(tmp_path), RunRecord)
    except FsaError as error:
        assert RUN_FILE in error.where


def lines(*changes: dict) -> str:
    return "".join(f"{json.dumps(json.loads(example().model_dump_json()) | change)}\n" for change in changes)


@pytest.mark.parametrize(
    ("content", "line", "told"),
    [
        (lines({}, {}), ":2", "'s1' a second time"),
        (lines({}, {"id": 3}), ":2", "id: Input should be a valid string"),
        (lines({"gold": [["pizza", None]]}), ":1", "gold.0.1"),
        (lines({"more": 1}), ":1", "more: Extra inputs are not permitted"),
        (lines({}).replace(': "s1"', ""), ":1", "Expecting"),
        (f"{lines({})}\n\nnot JSON\n", ":4", "Expecting"),
        ('{"id": "s1"}\n', ":1", "text: Field required"),
        ("[1]\n", ":1", "valid dictionary"),
        ("", "", "an empty file"),
        ("\n\n", "", "an empty file"),
    ],
)
def test_unusable_predictions_are_refused_with_their_line(tmp_path, content, line, told):
    path = tmp_path / PREDICTIONS_FILE
    path.write_text(content, encoding="utf-8")
    with pytest.raises(DataError) as refused:
        read_predictions(path)
    assert refused.value.where == f"{path}{line}"
    assert told in refused.value.found


def test_other_encodings_are_refused(tmp_path):
    (tmp_path / PREDICTIONS_FILE).write_bytes(lines({"text": "Crème"}).encode("utf-16"))
    with pytest.raises(DataError, match="UTF-8"):
        read_predictions(tmp_path / PREDICTIONS_FILE)
    (tmp_path / RUN_FILE).write_bytes(b'{"student": "\xff"}')
    with pytest.raises(DataError, match="UTF-8"):
        read_run(tmp_path)


def test_missing_files_are_refused(tmp_path):
    with pytest.raises(MissingDataError, match="predictions of fsa benchmark"):
        read_predictions(tmp_path / PREDICTIONS_FILE)
    with pytest.raises(MissingDataError, match="a run of fsa benchmark"):
        read_run(tmp_path)


def test_scored_runs_are_found_in_the_output(tmp_path):
    for seed in (42, 52, 62):
        run = RunRecord(student="a/b", task="atsa/rest14", share=0.1, learning_rate=3e-4, seed=seed)
        folder = tmp_path / run.folder
        folder.mkdir(parents=True)
        (folder / RUN_FILE).write_text(run.model_dump_json(), encoding="utf-8")
        if seed != 52:
            write_predictions(folder / PREDICTIONS_FILE, [example("s1"), example("s2")])
    folders = scored_folders(tmp_path)
    assert [folder.name for folder in folders] == ["seed-42", "seed-62"]
    scored = read_scored_run(folders[1])
    assert scored.run.seed == 62
    assert [prediction.id for prediction in scored.of_subset("hard")] == ["s1", "s2"]
    assert scored.of_subset("multi") == []
