"""Predictions of students that were fine-tuned on triples or quadruples."""

from __future__ import annotations

import csv
from pathlib import Path

import pyarrow.parquet
import pytest

from fsa_jax.serving.prediction_record import Prediction, read_prediction
from fsa_jax.serving.prediction_tables import converter

TEXT = "Good tea, good tea, but nobody smiled; NULL."


def _read(task, generated: str) -> Prediction:
    return read_prediction(task, "7", TEXT, generated, -1.0, False, lambda start, end: float(start - end))


def test_triples() -> None:
    generated = "NULL | service | negative ; tea | drinks | positive ; tea | drinks | conflict ; soup | food | positive"
    found = _read("tasd", generated).aspects
    assert [(a.target, a.category, a.polarity, a.start, a.end) for a in found] == [
        (None, "service", "negative", None, None),
        ("tea", "drinks", "positive", 5, 8),
        ("tea", "drinks", "conflict", 15, 18),
    ]
    assert [a.log_probability for a in found] == [-len(part.rstrip()) for part in generated.split(";")[:3]]


def test_quadruples() -> None:
    found = _read(
        "asqp", "tea | drinks | positive | Good ; NULL | service | negative | NULL ; tea | drinks | positive"
    ).aspects
    assert [(a.target, a.category, a.polarity, a.opinion_words) for a in found] == [
        ("tea", "drinks", "positive", ("Good",)),
        (None, "service", "negative", ()),
    ]


def test_a_pair_may_be_about_the_word_null() -> None:
    (aspect,) = _read("atsa", "NULL | neutral").aspects
    assert (aspect.target, aspect.start) == ("NULL", 39)


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_tables(tmp_path: Path, suffix: str) -> None:
    lines = tmp_path / "predictions.jsonl"
    prediction = _read("asqp", "tea | drinks | positive | Good ; NULL | service | negative | NULL")
    lines.write_text(prediction.model_dump_json() + "\n")
    out = tmp_path / f"out{suffix}"
    converter(out, "asqp")(lines, out)
    if suffix == ".csv":
        with out.open(newline="") as stream:
            rows = list(csv.DictReader(stream))
        assert [(row["target"], row["category"], row["opinion_words"]) for row in rows] == [
            ("tea", "drinks", "Good"),
            ("", "service", ""),
        ]
    else:
        (row,) = pyarrow.parquet.read_table(out).to_pylist()
        assert [aspect["opinion_words"] for aspect in row["aspects"]] == [["Good"], []]
