"""What ``fsa predict`` reads: columns, formats, standard input, and rows without text."""

from __future__ import annotations

import gzip
import io
import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest
import zstandard

from fsa_base.errors import SettingError
from fsa_jax.cli.main import main
from fsa_jax.serving import Predictor
from fsa_jax.serving.export_ct2 import write_ct2
from fsa_jax.serving.inputs import Row, open_reviews, read_rows
from fsa_jax.serving.student import load_student


@pytest.fixture(scope="module")
def exported(checkpoint, vocabulary, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("exported")
    write_ct2(load_student(checkpoint, vocabulary=vocabulary), out, "float32")
    return out


def predict(*arguments: object) -> int:
    return main(["predict", *map(str, arguments), "--max_output_length", "4"])


def jsonl(file: Path, *rows: object) -> Path:
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return file


@pytest.mark.parametrize(
    ("text", "id"),
    [("text", "review_id"), ("reviewText", None), ("Text", "ID"), ("review_body", "id"), ("content", None)],
)
def test_columns_are_detected_by_the_names_of_known_dumps(text, id, tmp_path):
    row = {"asin": "x", text: "good", "summary": "!"} | ({id: "a"} if id else {})
    reviews = open_reviews(jsonl(tmp_path / "in.jsonl", row))
    assert (reviews.text_column, reviews.id_column) == (text, id)
    assert list(reviews.rows()) == [Row("a" if id else "0", "good")]
    assert repr(text) in str(reviews)


def test_an_empty_column_is_not_chosen_if_another_one_has_values(tmp_path):
    file = jsonl(tmp_path / "in.jsonl", {"text": None, "content": "good"}, {"text": None, "content": "bad"})
    assert open_reviews(file).text_column == "content"
    assert open_reviews(jsonl(file, {"text": None, "content": None})).text_column == "text"


@pytest.mark.parametrize(
    ("row", "options", "message"),
    [
        ({"body": "a", "n": 1}, {}, "found none\n.*--text-column COLUMN; the columns are 'body', 'n'"),
        ({"text": "a", "review": "b"}, {}, "found text and review\n.*--text-column text; the columns are"),
        ({"text": "a", "id": 1, "ID": 2}, {}, "found ID and id\n.*--id-column ID"),
        ({"text": "a"}, {"text_column": "body"}, "--text-column: expected a column of .*the columns are 'text'"),
        ({"text": "a"}, {"id_column": "nr"}, "--id-column: expected a column of"),
    ],
)
def test_no_column_or_several_are_an_error_that_lists_the_columns(row, options, message, tmp_path):
    with pytest.raises(SettingError, match=f"(?s){message}"):
        open_reviews(jsonl(tmp_path / "in.jsonl", row), **options)


def test_given_columns_are_used(tmp_path):
    file = jsonl(tmp_path / "in.jsonl", {"text": "a", "review": "b", "id": 1, "nr": 5})
    assert list(read_rows(file, text_column="review", id_column="nr")) == [Row("5", "b")]
    (tmp_path / "in.txt").write_text("good\n")
    with pytest.raises(SettingError, match="plain lines have none"):
        read_rows(tmp_path / "in.txt", text_column="text")


def test_compressed_files_and_other_suffixes_are_read(tmp_path):
    lines, table = b'{"text": "good"}\n{"text": "bad"}\n', b"text\tid\ngood\t0\nbad\t1\n"
    (tmp_path / "in.jsonl.gz").write_bytes(gzip.compress(lines))
    (tmp_path / "in.jsonl.zst").write_bytes(zstandard.compress(lines))
    (tmp_path / "in.txt.gz").write_bytes(gzip.compress(b"good\nbad\n"))
    (tmp_path / "in.NDJSON").write_bytes(lines)
    (tmp_path / "in.tsv").write_bytes(table)
    (tmp_path / "in.csv.gz").write_bytes(gzip.compress(table.replace(b"\t", b",")))
    for file in tmp_path.iterdir():
        assert list(read_rows(file)) == [Row("0", "good"), Row("1", "bad")], file
    (tmp_path / "lines").write_bytes(lines)
    assert list(open_reviews(tmp_path / "lines", format="jsonl").rows()) == [Row("0", "good"), Row("1", "bad")]
    (tmp_path / "in.jsonl.gz").write_bytes(gzip.compress(lines)[:-9])
    with pytest.raises(Exception, match=r"in.jsonl.gz:\d: .*broken from here"):
        list(read_rows(tmp_path / "in.jsonl.gz"))


def test_rows_without_text_are_counted_and_predicted_as_errors(exported, tmp_path, capsys):
    values = [{}, {"text": None}, {"text": ""}, {"text": " \t"}, {"text": 5}, {"text": ["a"]}]
    rows = [{"id": f"r{i}", **value} for i, value in enumerate([{"text": "good"}, *values, {"text": "bad"}])]
    file, out = jsonl(tmp_path / "in.jsonl", *rows), tmp_path / "out.jsonl"
    assert predict(exported, file, out) == 0
    found = [json.loads(line) for line in out.read_text().splitlines()]
    assert [row["id"] for row in found] == [row["id"] for row in rows]
    assert [row["error"] for row in found] == [None, *["no text"] * 6, None]
    assert all(row["score"] is None and row["aspects"] == [] for row in found[1:-1])
    said = capsys.readouterr().out
    assert f"6 of 8 rows have no text: {file}:2, {file}:3, {file}:4, {file}:5, {file}:6, …" in said
    assert "; 6 have no text\n" in said


@pytest.mark.parametrize(
    ("rows", "told"),
    [
        (",hello\n0,second\n7,third\n", "1 of 3 rows have no id, .*\n1 of 3 rows have the same id as an earlier row"),
        ("a,hello\na,second\na,third\n", "2 of 3 rows have the same id as an earlier row"),
        ("0,hello\n2,second\n1,third\n", ""),
    ],
)
def test_rows_without_an_id_and_repeated_ids_are_counted(rows, told, tmp_path):
    file = tmp_path / "in.csv"
    file.write_text(f"id,text\n{rows}")
    assert re.fullmatch(told, str(open_reviews(file).check()))
    file.write_text("text\nhello\nhello\n")
    assert not str(open_reviews(file).check())


def test_a_kill_leaves_no_copy_of_standard_input(tmp_path):
    program = "from pathlib import Path; from fsa_jax.serving.inputs import open_reviews; r = open_reviews(Path('-')); "
    program += "r.check(); print([*r.rows()], flush=True); import time; time.sleep(60)"
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen([sys.executable, "-c", program], env=environment, **pipes) as process:
        assert process.stdin is not None and process.stdout is not None
        process.stdin.write(b"good\nbad\n")
        process.stdin.close()
        assert b"good" in process.stdout.readline()
        process.terminate()
    assert process.returncode == -signal.SIGTERM
    assert list(tmp_path.iterdir()) == [] or sys.platform != "linux"


def test_parquet_rows_without_text_do_not_end_the_command(exported, tmp_path):
    pyarrow.parquet.write_table(pyarrow.table({"text": ["good", None], "id": [3, 4]}), tmp_path / "in.parquet")
    assert predict(exported, tmp_path / "in.parquet", tmp_path / "out.jsonl") == 0
    found = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert [(row["id"], row["error"]) for row in found] == [("3", None), ("4", "no text")]


def give(content: bytes, monkeypatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(content)))


@pytest.mark.parametrize(
    ("content", "options", "texts"),
    [
        (b'\n {"reviewText": "good"}\n{"reviewText": "bad"}\n', [], ["good", "bad"]),
        (b"good\n{bad}\n", [], ["good", "{bad}"]),
        (b"{good}\n", ["--input_format", "txt"], ["{good}"]),
        (b"text,nr\ngood,1\n", ["--input_format", "csv", "--id-column", "nr"], ["good"]),
        (b"", [], []),
    ],
)
def test_standard_input_is_predicted_to_standard_output(content, options, texts, exported, monkeypatch, capfd):
    give(content, monkeypatch)
    assert predict(exported, "-", "-", *options) == 0
    written, said = capfd.readouterr()
    assert [json.loads(line)["text"] for line in written.splitlines()] == texts
    assert f"{len(texts)} predictions with ct2: standard output" in said


def test_errors_on_standard_input_name_the_line(exported, monkeypatch, capsys):
    give(b'{"text": "good"}\n{"text": \n', monkeypatch)
    assert predict(exported, "-", "-") == 2
    assert "standard input:2: expected one JSON object" in capsys.readouterr().err
    for array in (b'[{"text": "good"}]', b'[\n  {\n    "text": "good"\n  }\n]\n'):
        give(array, monkeypatch)
        assert predict(exported, "-", "-") == 2
        assert "jq -c '.[]'" in capsys.readouterr().err


def test_a_predictor_from_python_reports_blank_and_wrong_texts(exported):
    predictor = Predictor(exported, max_output_length=4)
    good, blank = predictor.predict(["good", "  "])
    assert (good.error, blank.error, blank.aspects) == (None, "no text", ())
    unusable: list[tuple[dict[str, Any], str]] = [
        ({"texts": "a"}, "found one text"),
        ({"texts": (text for text in "ab")}, "found generator"),
        ({"texts": ["a", None]}, r"texts\[1\]: expected a text, found None"),
        ({"texts": ["a \ud800"]}, "half a surrogate pair"),
        ({"texts": ["a"], "ids": []}, "one per text"),
        ({"texts": ["a"], "ids": [1]}, r"ids\[0\]: expected a text, found 1"),
        ({"texts": ["a"], "batch_size": 0}, "batch_size: expected a whole number of at least 1, found 0"),
    ]
    for arguments, message in unusable:
        with pytest.raises(SettingError, match=message):
            predictor.predict(**arguments)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"max_output_length": -4}, "max_output_length: expected a whole number of at least 1, found -4"),
        ({"max_output_length": 0}, "max_output_length: .* found 0"),
        ({"max_input_length": 1}, "max_input_length: expected a whole number of at least 2, found 1"),
        ({"threads": -4}, "threads: expected a whole number of at least 0, found -4"),
        ({"beams": 2.5}, "beams: .* found 2.5"),
        ({"device": "tpu"}, "device: expected 'cpu' or 'cuda' or 'auto', found 'tpu'"),
        ({"task": "asta"}, "task: .* near 'atsa'"),
    ],
)
def test_a_setting_of_a_predictor_that_cannot_be_used_is_refused(options, message, exported):
    with pytest.raises(SettingError, match=message):
        Predictor(exported, **options)
