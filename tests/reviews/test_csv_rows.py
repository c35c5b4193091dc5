"""All commands read CSV by the same rules; a row that breaks them is an error or is counted."""

from __future__ import annotations

import csv
import io
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fsa_base.errors import DataError
from fsa_jax.checking.check_generations import released
from fsa_jax.cli.main import main
from fsa_jax.reviews.dump_rows import raw_rows
from fsa_jax.reviews.source import Losses, Source
from fsa_jax.serving.inputs import read_rows
from fsa_jax.teacher.job import read_reviews

REASON = "CSV row with another number of columns than its header"


def reader_rows(path: Path) -> list:
    """The rows as dicts, bad rows as their reasons."""
    return [raw.reason if not hasattr(raw, "parse") else raw.parse() for raw in raw_rows(path)]


@pytest.mark.parametrize("line", ["1,Good food, rude waiter,5", "1,Good food"])
def test_a_row_with_the_wrong_number_of_fields_is_refused_by_every_command(tmp_path: Path, line: str) -> None:
    path = tmp_path / "reviews.csv"
    path.write_text(f"id,text,stars\n0,The soup was warm and good.,4\n{line}\n2,The waiter was kind to us.,3\n")
    with pytest.raises(DataError, match=r"reviews\.csv:3") as caught:
        list(read_rows(path))
    assert caught.value.found == REASON
    losses = Losses()
    assert [review.id for review in read_reviews([Source(str(path))], losses)] == ["0", "2"]
    assert losses.dropped == {REASON: 1} and losses.places[REASON] == [f"{path}:3"]
    path.write_text(path.read_text().replace("stars", "gpt_response"))
    skipped: Counter[str] = Counter()
    assert [review.id for review, _ in released(path, skipped)] == ["0", "2"]
    assert skipped == {REASON: 1}


def test_an_unclosed_quote_loses_only_its_own_row(tmp_path: Path) -> None:
    path = tmp_path / "reviews.csv"
    lines = [f'{i},"The table number {i} was clean and lovely.",3' for i in range(50)]
    lines[5] = '5,"The table number 5 was dirty.,3'
    path.write_text("id,text,stars\n" + "\n".join(lines) + "\n")
    losses = Losses()
    found = list(read_reviews([Source(str(path))], losses))
    assert [review.id for review in found] == [str(i) for i in range(50) if i != 5]
    assert losses.dropped.total() == 1 and losses.read == 50
    with pytest.raises(DataError, match=r"reviews\.csv:7"):
        list(read_rows(path))
    output = tmp_path / "out.parquet"
    assert main(["sample", str(path), str(output), "--stars-ratio", "null", "--size", "10", "--language", "null"]) == 0


def test_an_unclosed_quote_without_quotes_after_it(tmp_path: Path) -> None:
    path = tmp_path / "reviews.csv"
    path.write_text('text,stars\n"good,5\n' + "fine,4\n" * 3000)
    assert reader_rows(path) == ["CSV quote that is not closed"] + [{"text": "fine", "stars": "4"}] * 3000


def test_the_rest_of_a_broken_row_is_not_a_row(tmp_path: Path) -> None:
    path = tmp_path / "reviews.csv"
    path.write_text('text,stars\n"first line\nof "two" that were\nbroken",5\ngood,4\n')
    assert reader_rows(path)[-1] == {"text": "good", "stars": "4"}
    assert [row for row in reader_rows(path) if isinstance(row, dict)] == [{"text": "good", "stars": "4"}]
    assert len(reader_rows(path)) == 4


def test_text_is_read_unchanged(tmp_path: Path) -> None:
    path = tmp_path / "reviews.csv"
    path.write_bytes(b'id,text\r\n1,"a ""b"", c\r\nd"\r\n2,a 5" screen\r\n3, spaced \r\n')
    assert [row.text for row in read_rows(path)] == ['a "b", c\r\nd', 'a 5" screen', " spaced "]
    assert [raw.repairs for raw in raw_rows(path)] == [(), ("quote inside a CSV field without quotes, kept",), ()]


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b'"good" food,5', "text after the closing quote of a CSV field"),
        (b"go\0od,5", "CSV row with a NUL"),
        (b'"go\n\0od",5', "CSV quote that is not closed"),
        (b"go\rod,5", "carriage return inside a CSV field without quotes"),
        (b'"' + b"x" * 400 + b"\n" + b"x" * 400 + b"\n" + b"x" * 400 + b'",5', "CSV quote that is not closed"),
        (b"x" * 2000 + b",5", "line longer than 4 MB"),
    ],
)
def test_other_violations_are_counted_or_errors(
    tmp_path: Path, line: bytes, reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fsa_jax.reviews.raw_row.MAX_ROW_BYTES", 600)
    path = tmp_path / "reviews.csv"
    path.write_bytes(b"text,stars\n" + line + b"\nfine,4\n")
    assert reader_rows(path)[0] == reason and reader_rows(path)[-1] == {"text": "fine", "stars": "4"}
    with pytest.raises(DataError, match=r"reviews\.csv:2"):
        list(read_rows(path))


@pytest.mark.parametrize("header", ["id{}text{}stars", '"id"{}"text"{}"stars"'])
@pytest.mark.parametrize(("separator", "name"), [(";", "semicolons"), ("\t", "tabs")])
def test_a_csv_file_may_be_separated_by_semicolons_or_tabs(
    tmp_path: Path, header: str, separator: str, name: str
) -> None:
    path = tmp_path / "reviews.csv"
    rows = [header, '7{}"Good, warm; and ""big""."{}5', "8{}Cold{}1{}1"]
    path.write_text("\n".join(rows).replace("{}", separator))
    losses = Losses()
    (review,) = read_reviews([Source(str(path))], losses)
    assert (review.id, review.text) == ("7", 'Good, warm; and "big".')
    assert losses.repaired == {f"fields separated by {name}": 1} and losses.dropped == {REASON: 1}
    path.write_text("\n".join(rows[:2]).replace("{}", separator))
    assert list(read_rows(path)) == [(review.id, review.text)]


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\n",
        b",,\n1,2,3\n",
        b"text,stars,text\na,5,b\n",
        b'"text,stars\ngood,5\n',
        b"t\0e\0x\0t\0,\0a\0\n\0",
        b"text\0\n",
    ],
)
def test_a_header_that_is_missing_or_ambiguous_is_an_error_everywhere(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "reviews.csv"
    path.write_bytes(content)
    with pytest.raises(DataError):
        list(read_rows(path))
    with pytest.raises(DataError):
        list(read_reviews([Source(str(path))], Losses()))


CELL = st.text(st.sampled_from('ab ,"\n\r\t;é'), max_size=12)


@given(st.lists(st.lists(CELL, min_size=2, max_size=2), max_size=12), st.sampled_from([",", "\t"]))
def test_what_csv_writes_is_read_back(tmp_path_factory: pytest.TempPathFactory, rows: list, delimiter: str) -> None:
    path = tmp_path_factory.mktemp("csv") / ("a.csv" if delimiter == "," else "a.tsv")
    buffer = io.StringIO(newline="")
    csv.writer(buffer, delimiter=delimiter, quoting=csv.QUOTE_ALL).writerows([["x", "y"], *rows])
    path.write_bytes(buffer.getvalue().encode())
    assert reader_rows(path) == [{"x": x, "y": y} for x, y in rows]


@given(st.lists(st.text(st.sampled_from('ab,"\n\r\0'), max_size=10), max_size=20))
def test_every_line_is_in_a_row_that_is_kept_or_counted(tmp_path_factory: pytest.TempPathFactory, pieces: list) -> None:
    path = tmp_path_factory.mktemp("csv") / "a.csv"
    content = ("x,y\n" + "\n".join(pieces)).encode()
    path.write_bytes(content)
    found = list(raw_rows(path))
    lines = io.BytesIO(content).readlines()
    starts = [raw.line for raw in found if raw.line is not None] + [len(lines) + 1]
    assert len(starts) == len(found) + 1
    assert starts[0] == 2 or len(lines) == 1
    for raw, start, after in zip(found, starts, starts[1:], strict=False):
        size = after - start
        assert size == 1 or (size > 1 and hasattr(raw, "parse"))
        if hasattr(raw, "parse"):
            text = b"".join(lines[start - 1 : after - 1]).decode().rstrip("\r\n")
            if '"' not in text:
                assert ",".join(raw.parse().values()) == text
