from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from fsa_jax.errors import FsaError, SettingError
from fsa_jax.serving import Predictor, run
from fsa_jax.serving.inputs import Row, read_rows
from fsa_jax.serving.prediction import Prediction, read_prediction
from fsa_jax.serving.run import predict_file


@pytest.fixture(scope="module")
def predictor(checkpoint, vocabulary):
    return Predictor(checkpoint, vocabulary=vocabulary, max_output_length=8)


@pytest.fixture
def rows(texts):
    return [Row(f"r{i}", text) for i, text in enumerate(texts)]


def test_predictions_do_not_depend_on_the_batch_size(predictor, texts):
    expected = [p.generated for p in predictor.predict(texts, batch_size=1)]
    for batch_size in (3, 32):
        assert [p.generated for p in predictor.predict(texts, batch_size=batch_size)] == expected
    assert len(set(expected)) > 1


def test_predictions_are_in_the_order_of_the_input(predictor, rows, tmp_path):
    outcome = predict_file(predictor, iter(rows), tmp_path / "out.jsonl", settings={}, batch_size=8)
    written = [Prediction.model_validate_json(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert [(p.id, p.text) for p in written] == rows
    assert outcome.predicted == len(rows)
    assert [file.name for file in tmp_path.iterdir()] == ["out.jsonl"]


class Stopped(Exception):
    """Stands for the end of the process."""


def test_a_stopped_run_goes_on_where_it_stopped(predictor, rows, tmp_path, monkeypatch):
    monkeypatch.setattr(run, "CHUNK", 5)
    predict_file(predictor, iter(rows), tmp_path / "whole.jsonl", settings={"a": 1})
    real, calls = os.fsync, []

    def stop(descriptor: int) -> None:
        calls.append(descriptor)
        real(descriptor)
        if len(calls) == 3:
            raise Stopped

    monkeypatch.setattr(run.os, "fsync", stop)
    with pytest.raises(Stopped):
        predict_file(predictor, iter(rows), tmp_path / "out.jsonl", settings={"a": 1})
    assert not (tmp_path / "out.jsonl").exists()
    part = tmp_path / "out.jsonl.part"
    # The last line is cut in half, as a power failure may leave it.
    part.write_bytes(part.read_bytes()[:-20])
    outcome = predict_file(predictor, iter(rows), tmp_path / "out.jsonl", settings={"a": 1})
    assert (outcome.resumed, outcome.predicted) == (14, len(rows) - 14)
    assert (tmp_path / "out.jsonl").read_bytes() == (tmp_path / "whole.jsonl").read_bytes()


def test_a_part_of_another_run_is_refused(predictor, rows, tmp_path, monkeypatch):
    monkeypatch.setattr(run, "CHUNK", 5)
    monkeypatch.setattr(run.os, "fsync", lambda _: (_ for _ in ()).throw(Stopped))
    with pytest.raises(Stopped):
        predict_file(predictor, iter(rows), tmp_path / "out.jsonl", settings={"beams": 1})
    with pytest.raises(SettingError, match="beams"):
        predict_file(predictor, iter(rows), tmp_path / "out.jsonl", settings={"beams": 4})
    with pytest.raises(SettingError, match="'r0' where the input has 'r1'"):
        predict_file(predictor, iter(rows[1:]), tmp_path / "out.jsonl", settings={"beams": 1})


def test_an_output_that_exists_is_refused(predictor, rows, tmp_path):
    (tmp_path / "out.jsonl").write_text("mine")
    with pytest.raises(SettingError, match="not there yet"):
        predict_file(predictor, iter(rows), tmp_path / "out.jsonl", settings={})
    assert (tmp_path / "out.jsonl").read_text() == "mine"


def test_long_reviews_are_cut_and_say_so(checkpoint, vocabulary):
    predictor = Predictor(checkpoint, vocabulary=vocabulary, max_input_length=8, max_output_length=4)
    short, long = predictor.predict(["OK", "very good " * 20])
    assert (short.cut, long.cut) == (False, True)


def test_generated_text_becomes_records_with_offsets():
    text = "Bread is good, the bread is fresh, the service slow."
    found = read_prediction("atsa", "1", text, "bread | positive ; service | negative ; wine | positive", -0.5, False)
    assert [(a.target, a.polarity, a.start, a.end) for a in found.aspects] == [
        ("bread", "positive", 19, 24),
        ("service", "negative", 39, 46),
    ]
    twice = read_prediction(
        "atsa", "1", "no bread, no bread", "bread | negative ; bread | negative ; bread | neutral", 0, False
    )
    assert [a.start for a in twice.aspects] == [3, 13, 13]
    found = read_prediction("acsa", "1", text, "food quality | positive", -0.5, False)
    assert [(a.category, a.polarity) for a in found.aspects] == [("food quality", "positive")]
    analysis = 'Opinion Target 1: "bread"\nAspect: Food\nSentiment: Very Positive\nReasoning: good'
    opinion = read_prediction("analysis", "1", text, analysis, 0, False).opinions[0]
    assert (opinion.target, opinion.sentiment) == ("bread", "very positive")


def _write(path: Path, kind: str, rows: list[Row]) -> Path:
    file = path / f"in.{kind}"
    if kind == "jsonl":
        file.write_text("".join(json.dumps(row._asdict()) + "\n" for row in rows))
    elif kind == "csv":
        import csv

        with open(file, "w", newline="") as stream:
            csv.writer(stream).writerows([("id", "text"), *rows])
    elif kind == "parquet":
        import pyarrow
        import pyarrow.parquet

        pyarrow.parquet.write_table(pyarrow.table({"id": [r.id for r in rows], "text": [r.text for r in rows]}), file)
    return file


@pytest.mark.parametrize("kind", ["jsonl", "csv", "parquet"])
def test_every_kind_of_file_gives_the_same_rows(kind, tmp_path):
    rows = [Row("a", 'say "no", twice\nor more'), Row("b", "caf\u00e9 \u2028 bar"), Row("7", "")]
    assert list(read_rows(_write(tmp_path, kind, rows))) == rows


def test_text_files_have_a_review_a_line(tmp_path):
    (tmp_path / "in.txt").write_bytes("\ufeffone\r\ntwo\n\nthree".encode())
    assert list(read_rows(tmp_path / "in.txt")) == [Row("0", "one"), Row("1", "two"), Row("2", ""), Row("3", "three")]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("in.jsonl", b'{"text": "a"}\n{"text": "b"', "in.jsonl:2"),
        ("in.jsonl", b'{"review": "a"}\n', "keys review"),
        ("in.jsonl", b"[1]\n", "list"),
        ("in.jsonl", b'{"text": "\xff"}\n', "UTF-8"),
        ("in.csv", b"id,review\n1,a\n", "'text'"),
        ("in.parquet", b"no parquet", "Parquet"),
        ("in.xml", b"", "xml"),
    ],
)
def test_bad_input_names_its_place(name, content, message, tmp_path):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(FsaError, match=message):
        list(read_rows(tmp_path / name))


def test_a_missing_model_or_vocabulary_is_told(tmp_path, checkpoint):
    with pytest.raises(FsaError, match="a model"):
        Predictor(tmp_path / "nowhere")
    with pytest.raises(FsaError, match="SentencePiece"):
        (tmp_path / "spiece.model").write_text("none")
        Predictor(checkpoint, vocabulary=tmp_path / "spiece.model")
