"""Reads reviews for prediction from JSONL, CSV, Parquet or text files."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from fsa_base import untrusted_json
from fsa_base.errors import DataError, MissingDataError, SettingError
from fsa_jax.reviews.dump_rows import raw_rows
from fsa_jax.reviews.parquet_files import parquet_rows
from fsa_jax.reviews.raw_row import EMPTY_LINE, NOT_UTF8, BadRow, RawRow

MAX_LINE_BYTES = 64 << 20
_LONGEST_SHOWN = 300


class Row(NamedTuple):
    """One review of an input file."""

    id: str
    text: str


def read_rows(path: Path, *, text_column: str = "text", id_column: str = "id") -> Iterator[Row]:
    """The reviews of a file, in order. A text file has one per line. Rows without an id get their number, from 0.

    Args:
      path: file with the suffix ``.jsonl``, ``.csv``, ``.parquet`` or ``.txt``.
      text_column: key or column of the text.
      id_column: key or column of the id; it may be missing.

    Raises:
      MissingDataError: there is no such file.
      SettingError: the file has another suffix.
      DataError: a row cannot be read or has no text; the message names the row.
    """
    if not path.is_file():
        found = "a folder" if path.is_dir() else "something else" if path.exists() else "nothing"
        raise MissingDataError(path, expected="a file of reviews", found=found, fix="check the path")
    readers: dict[str, Callable[[Path], Iterator[tuple[str, Any]]]] = {
        ".jsonl": _jsonl,
        ".csv": _csv,
        ".parquet": _parquet,
        ".txt": _text,
    }
    if path.suffix not in readers:
        raise SettingError(
            path,
            expected="a name that ends in " + ", ".join(readers),
            found=path.suffix or "no suffix",
            fix="rename the file",
        )
    column = "text" if path.suffix == ".txt" else text_column
    for number, (where, row) in enumerate(readers[path.suffix](path)):
        if not isinstance(row, dict) or not isinstance(row.get(column), str):
            found = f"{row.get(column)!r}; keys {', '.join(row)}" if isinstance(row, dict) else type(row).__name__
            raise DataError(
                where,
                expected=f"a text under {column!r}",
                found=found if len(found) <= _LONGEST_SHOWN else f"{found[:_LONGEST_SHOWN]} …",
                fix="set the column with --text_column, and remove rows without a text",
            )
        name = row.get(id_column)
        yield Row(str(number if name is None or name == "" else name), row[column])


def _lines(path: Path) -> Iterator[tuple[str, str]]:
    """Lines that end with ``\\n`` only. A review in JSON may contain other line breaks, which do not end the row."""
    with open(path, "rb") as stream:
        number = 0
        while line := stream.readline(MAX_LINE_BYTES + 1):
            number += 1
            where = f"{path}:{number}"
            if len(line) > MAX_LINE_BYTES:
                raise DataError(
                    where,
                    expected=f"lines of at most {MAX_LINE_BYTES >> 20} MiB",
                    found="a longer one",
                    fix="write one review per line",
                )
            try:
                text = line.decode("utf-8-sig" if number == 1 else "utf-8")
            except UnicodeDecodeError as error:
                raise DataError(where, expected="UTF-8", found=str(error), fix="convert the file to UTF-8") from None
            yield where, text.rstrip("\r\n")


def _text(path: Path) -> Iterator[tuple[str, Any]]:
    for where, line in _lines(path):
        yield where, {"text": line}


def _jsonl(path: Path) -> Iterator[tuple[str, Any]]:
    for where, line in _lines(path):
        if not line.strip():
            continue
        try:
            yield where, untrusted_json.parse(line)
        except untrusted_json.UntrustedJsonError as error:
            raise DataError(where, expected="one JSON object", found=str(error), fix="correct the line") from error


def _csv(path: Path) -> Iterator[tuple[str, Any]]:
    for raw in raw_rows(path):
        row = raw if isinstance(raw, BadRow) else raw.parse()
        where = f"{path}:{raw.line}"
        if isinstance(row, BadRow):
            if row.reason == EMPTY_LINE:
                continue
            raise DataError(
                where,
                expected="a row with the fields of its header",
                found=row.reason,
                fix='put "" around a field with commas, quotes or line ends, and write its quotes twice',
            )
        if isinstance(raw, RawRow) and NOT_UTF8 in raw.repairs:
            raise DataError(where, expected="UTF-8", found="another encoding", fix="convert the file to UTF-8")
        yield where, row


def _parquet(path: Path) -> Iterator[tuple[str, Any]]:
    for number, raw in enumerate(parquet_rows(path), 1):
        row = raw if isinstance(raw, BadRow) else raw.parse()
        where = f"{path}: row {number}"
        if isinstance(row, BadRow):
            raise DataError(where, expected="a row that can be read", found=row.reason, fix="write the file again")
        yield where, row
