"""Predictions as CSV and Parquet."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pyarrow.parquet
import pytest

from fsa_base.errors import SettingError
from fsa_jax.common.records import Opinion
from fsa_jax.serving import Predictor, prediction_tables
from fsa_jax.serving import predict_file as predict_module
from fsa_jax.serving.export_ct2 import write_ct2
from fsa_jax.serving.inputs import Row
from fsa_jax.serving.predict_file import predict_file
from fsa_jax.serving.prediction_record import PredictedAspect, Prediction, Task, without_text
from fsa_jax.serving.student import load_student

TEXT = 'The "pizza", =1+1,\r\nwas good; the staff\rwas not. café'
ASPECTS = (
    PredictedAspect(target="pizza", polarity="positive", start=5, end=10, log_probability=-0.5),
    PredictedAspect(target="staff", polarity="negative", start=34, end=39, log_probability=-0.25),
)
PREDICTIONS = [
    Prediction(id="-a", text=TEXT, aspects=ASPECTS, generated="pizza | positive", score=-1.0, cut=True),
    Prediction(id="b", text="nothing", generated="", score=-0.1),
    without_text("c", ""),
]


def lines(folder: Path, predictions: list[Prediction]) -> Path:
    file = folder / "predictions"
    file.write_text("".join(prediction.model_dump_json() + "\n" for prediction in predictions), encoding="utf-8")
    return file


def table(folder: Path, predictions: list[Prediction], task: Task) -> list[dict[str, str]]:
    out = folder / "out.csv"
    prediction_tables.write_csv(lines(folder, predictions), out, task=task)
    assert prediction_tables.is_table(out)
    with out.open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))


def test_csv_has_one_row_per_aspect_and_one_for_a_review_without_any(tmp_path):
    rows = table(tmp_path, PREDICTIONS, "atsa")
    header = ["id", "text", "target", "polarity", "start", "end", "log_probability", "cut", "error"]
    assert [list(row) for row in rows] == [header] * 4
    assert [list(row.values()) for row in rows] == [
        ["-a", TEXT, "pizza", "positive", "5", "10", "-0.5", "true", ""],
        ["-a", TEXT, "staff", "negative", "34", "39", "-0.25", "true", ""],
        ["b", "nothing", "", "", "", "", "", "false", ""],
        ["c", "", "", "", "", "", "", "false", "no text"],
    ]


def test_csv_of_the_other_tasks_has_their_columns(tmp_path):
    opinion = Opinion(target="pizza", aspects=("Food", "Price"), sentiment="very positive", reasoning='so "good"')
    found = Prediction(id="1", text="a", opinions=(opinion,), generated="g", score=0.0)
    (row,) = table(tmp_path, [found], "analysis")
    assert (row["aspects"], row["reasoning"]) == ("Food, Price", 'so "good"')
    (row,) = table(tmp_path, [found], "rewriting")
    assert row["generated"] == "g"
    (row,) = table(tmp_path, [found.model_copy(update={"aspects": ASPECTS[:1], "opinions": ()})], "acsa")
    assert list(row) == ["id", "text", "category", "polarity", "log_probability", "cut", "error"]


def test_parquet_has_one_row_per_review_with_the_fields_of_json_lines(tmp_path):
    out = tmp_path / "out.parquet"
    prediction_tables.write_parquet(lines(tmp_path, PREDICTIONS), out)
    assert prediction_tables.is_table(out)
    rows = pyarrow.parquet.read_table(out).to_pylist()
    assert [Prediction.model_validate(row) for row in rows] == PREDICTIONS


@pytest.fixture(scope="module")
def predictor(checkpoint, vocabulary, tmp_path_factory) -> Predictor:
    out = tmp_path_factory.mktemp("exported")
    write_ct2(load_student(checkpoint, vocabulary=vocabulary), out, "float32")
    return Predictor(out, task="acsa", max_output_length=4)


class Stopped(Exception):
    """Replaces the end of the process."""


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
@pytest.mark.parametrize("stop", ["between two chunks", "in the conversion"])
def test_a_table_is_resumed_and_equals_that_of_an_uninterrupted_run(
    suffix, stop, predictor, texts, tmp_path, monkeypatch
):
    rows = [Row(str(number), text) for number, text in enumerate(["", *texts])]
    monkeypatch.setattr(predict_module, "CHUNK", 10)
    whole, out = tmp_path / f"whole{suffix}", tmp_path / f"out{suffix}"
    predict_file(predictor, iter(rows), whole, settings={})

    def stopped_rows():
        yield from rows[:15]
        raise Stopped

    def stopped_conversion(predictions: Path, converted: Path) -> None:
        converted.write_text("half")
        raise Stopped

    with monkeypatch.context() as patch, pytest.raises(Stopped):
        if stop == "in the conversion":
            patch.setattr(predict_module, "converter", lambda *_: stopped_conversion)
        predict_file(predictor, stopped_rows() if stop == "between two chunks" else iter(rows), out, settings={})
    assert not out.exists()
    outcome = predict_file(predictor, iter(rows), out, settings={})
    assert outcome.resumed == (10 if stop == "between two chunks" else 20)
    assert outcome.without_text == 1
    assert out.read_bytes() == whole.read_bytes()
    assert sorted(file.name for file in tmp_path.iterdir()) == [f"out{suffix}", f"whole{suffix}"]


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_only_a_table_of_this_command_is_replaced(suffix, predictor, tmp_path):
    out = tmp_path / f"out{suffix}"
    rows = [Row("0", "good")]
    out.write_text("id,text\n1,mine\n")
    with pytest.raises(SettingError, match="that does not exist"):
        predict_file(predictor, iter(rows), out, settings={}, overwrite=True)
    out.unlink()
    for overwrite in (False, True):
        predict_file(predictor, iter(rows), out, settings={}, overwrite=overwrite)
    with pytest.raises(SettingError, match="--overwrite"):
        predict_file(predictor, iter(rows), out, settings={})


def test_every_field_of_a_prediction_is_in_a_table():
    assert set(json.loads(PREDICTIONS[0].model_dump_json())) == set(prediction_tables.SCHEMA.names)
