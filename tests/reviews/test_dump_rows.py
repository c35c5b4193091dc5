"""Raw rows of every format; all kinds of bad rows in dumps are counted and never fatal."""

from __future__ import annotations

import csv
import gzip
import json
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from fsa_base.errors import DataError, MissingDataError, SettingError
from fsa_jax.reviews import raw_row
from fsa_jax.reviews.dump_rows import BadRow, expand, raw_rows

ROWS = [{"text": f"Review {i}, “quoted”\nwith a second line", "stars": i % 5 + 1} for i in range(7)]


def read(path: Path) -> list:
    return [row if isinstance(row, BadRow) else row.parse() for row in raw_rows(path)]


def reasons(path: Path) -> list[str]:
    return [row.reason for row in read(path) if isinstance(row, BadRow)]


def jsonl() -> bytes:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in ROWS).encode()


def test_every_format_gives_the_same_rows(tmp_path):
    (tmp_path / "a.jsonl").write_bytes(b"\xef\xbb\xbf" + jsonl())
    (tmp_path / "a.json.gz").write_bytes(gzip.compress(jsonl()))
    # Two frames in one file, as parallel compressors write them.
    half = len(jsonl()) // 2
    compress = zstandard.ZstdCompressor().compress
    (tmp_path / "a.jsonl.zst").write_bytes(compress(jsonl()[:half]) + compress(jsonl()[half:]))
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(ROWS), tmp_path / "a.parquet")
    for name, delimiter in (("a.csv", ","), ("a.tsv", "\t")):
        with (tmp_path / name).open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, ["text", "stars"], delimiter=delimiter)
            writer.writeheader()
            writer.writerows(ROWS)
    for name in ("a.jsonl", "a.json.gz", "a.jsonl.zst", "a.parquet"):
        assert read(tmp_path / name) == ROWS, name
    for name in ("a.csv", "a.tsv"):
        assert [{**row, "stars": int(row["stars"])} for row in read(tmp_path / name)] == ROWS, name


def test_broken_json_lines_are_counted_in_place(tmp_path):
    path = tmp_path / "dump.jsonl"
    path.write_bytes(
        b'{"text": "a"}\n{"text": "b\n\n[1]\n{\'text\': u\'python\'}\n{\'text\': __import__("os")}\n{"text": "c"}'
    )
    found = read(path)
    assert [row.reason if isinstance(row, BadRow) else row["text"] for row in found] == [
        "a",
        "broken JSON",
        "empty line",
        "JSON, but no object",
        "python",
        "broken JSON",
        "c",
    ]


def test_other_encodings_are_read_and_reported(tmp_path):
    path = tmp_path / "dump.jsonl"
    path.write_bytes(b'{"text": "caf\xe9 \x93good\x94"}\n' + '{"text": "café"}\n'.encode())
    first, second = raw_rows(path)
    assert not isinstance(first, BadRow) and not isinstance(second, BadRow)
    assert first.parse() == {"text": "café “good”"}
    assert first.repairs == ("not UTF-8, read as Windows-1252",)
    assert second.parse() == {"text": "café"} and second.repairs == ()


def test_a_line_without_end_is_skipped_and_the_next_is_read(tmp_path, monkeypatch):
    monkeypatch.setattr(raw_row, "MAX_ROW_BYTES", 1000)
    path = tmp_path / "dump.jsonl"
    path.write_bytes(b'{"text": "a"}\n' + b'{"text": "' + b"x" * 5000 + b'"}\n{"text": "b"}\n')
    assert read(path) == [{"text": "a"}, BadRow("line longer than 4 MB"), {"text": "b"}]


def test_the_complete_rows_of_a_truncated_archive_are_read(tmp_path):
    path = tmp_path / "dump.jsonl.gz"
    lines = "".join(json.dumps({"text": f"{i} " * 50}) + "\n" for i in range(20_000)).encode()
    path.write_bytes(gzip.compress(lines)[:-2000])
    found = read(path)
    assert found[-1] == BadRow("compressed file is broken from here on")
    assert len(found) > 100


def test_csv_with_an_open_quote_and_odd_rows(tmp_path, monkeypatch):
    monkeypatch.setattr(raw_row, "MAX_ROW_BYTES", 300)
    path = tmp_path / "dump.csv"
    path.write_bytes(
        b"text,stars\ngood,5\nbad\n\ntoo,many,cells\nn\0ul,3\n" + b'"open,1\n' + b"line,2\n" * 100 + b"last,4\n"
    )
    found = read(path)
    assert found[0] == {"text": "good", "stars": "5"}
    assert found[4] == BadRow("CSV row with a NUL")
    assert {row.reason for row in found if isinstance(row, BadRow)} >= {
        "CSV row with another number of columns than its header",
        "empty line",
        "CSV quote that is not closed",
    }
    assert sum(isinstance(row, dict) for row in found) == 102
    assert found[-1] == {"text": "last", "stars": "4"}


@pytest.mark.parametrize(
    ("name", "content", "error"),
    [
        ("a.jsonl", b'[{"text": "a"}]', DataError),
        ("a.jsonl", '{"text": "a"}'.encode("utf-16"), DataError),
        ("a.jsonl.gz", b"not gzip", DataError),
        ("a.jsonl.zst", b"not zstd", DataError),
        ("a.parquet", b"not parquet", DataError),
        ("a.csv", b"", DataError),
        ("a.xlsx", b"", SettingError),
    ],
)
def test_a_file_that_is_not_a_dump_gives_an_error_with_a_fix(tmp_path, name, content, error):
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(error) as caught:
        read(path)
    assert caught.value.fix and name in str(caught.value)


def test_folders_and_missing_files(tmp_path):
    with pytest.raises(MissingDataError):
        expand(tmp_path / "none.jsonl")
    with pytest.raises(MissingDataError):
        expand(tmp_path / ("long" * 100))
    with pytest.raises(DataError):
        expand(tmp_path)
    for name in ("b.jsonl", "a.jsonl.gz", "notes.txt"):
        (tmp_path / name).touch()
    assert [path.name for path in expand(tmp_path)] == ["a.jsonl.gz", "b.jsonl"]


@settings(max_examples=60)
@given(st.binary(max_size=300))
def test_no_bytes_stop_the_reader(tmp_path_factory, content):
    folder = tmp_path_factory.mktemp("fuzz")
    for name in ("a.jsonl", "a.csv"):
        path = folder / name
        path.write_bytes(content)
        try:
            found = read(path)
        except DataError:
            continue
        assert all(isinstance(row, BadRow | dict) for row in found)
