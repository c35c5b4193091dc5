"""Reviews to predict, from JSONL, CSV, Parquet or text files."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from fsa_jax.errors import DataError, MissingDataError, SettingError
from fsa_jax.sampling.raw_row import EMPTY_LINE, NOT_UTF8, BadRow, RawRow
from fsa_jax.sampling.rows import raw_rows


class Row(NamedTuple):
    """One review of an input file."""

    id: str
    text: str


def read_rows(path: Path, *, text_column: str = "text", id_column: str = "id") -> Iterator[Row]:
    """The reviews of a file, in its order; a text file has one a line. Rows without an id get their number, from 0.

    Args:
      path: ``.jsonl``, ``.csv``, ``.parquet`` or ``.txt``.
      text_column: key or column of the text.
      id_column: key or column of the id, where there is one.

    Raises:
      MissingDataError: there is no such file.
      SettingError: its name ends in none of these.
      DataError: a row cannot be read or has no text; the message says which.
    """
    if not path.is_file():
        raise MissingDataError(path, expected="a file of reviews", found="nothing", fix="check the path")
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
            found=path.suffix or "no ending",
            fix="rename it",
        )
    column = "text" if path.suffix == ".txt" else text_column
    for number, (where, row) in enumerate(readers[path.suffix](path)):
        if not isinstance(row, dict) or not isinstance(row.get(column), str):
            found = type(row).__name__ if not isinstance(row, dict) else f"{row.get(column)!r}; keys {', '.join(row)}"
            raise DataError(
                where,
                expected=f"a text under {column!r}",
                found=found,
                fix="name the column with --text_column, and remove rows without a text",
            )
        name = row.get(id_column)
        yield Row(str(number if name is None or name == "" else name), row[column])


def _lines(path: Path) -> Iterator[tuple[str, str]]:
    number = 0
    try:
        # newline="\n": a review in JSON may hold other line breaks, which are no ends of rows.
        with open(path, encoding="utf-8-sig", newline="\n") as stream:
            for number, line in enumerate(stream, 1):
                yield f"{path}:{number}", line.rstrip("\r\n")
    except UnicodeDecodeError as error:
        raise DataError(
            f"{path}:{number + 1}", expected="UTF-8", found=str(error), fix="convert the file to UTF-8"
        ) from error


def _text(path: Path) -> Iterator[tuple[str, Any]]:
    for where, line in _lines(path):
        yield where, {"text": line}


def _jsonl(path: Path) -> Iterator[tuple[str, Any]]:
    for where, line in _lines(path):
        if not line.strip():
            continue
        try:
            yield where, json.loads(line)
        except ValueError as error:
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
    import pyarrow
    import pyarrow.parquet

    try:
        file = pyarrow.parquet.ParquetFile(path)
        for batch in file.iter_batches(batch_size=1024):
            for row in batch.to_pylist():
                yield str(path), row
    except (pyarrow.ArrowException, OSError) as error:
        raise DataError(path, expected="a Parquet file", found=str(error), fix="write the file again") from error
