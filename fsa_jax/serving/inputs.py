"""Reads reviews for prediction from files or standard input, and finds the columns of text and id."""

from __future__ import annotations

import shutil
import sys
from array import array
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from tempfile import NamedTemporaryFile, TemporaryFile
from typing import IO, Any, Literal, NamedTuple, get_args

import numpy as np

from fsa_base import untrusted_json
from fsa_base.errors import DataError, MissingDataError, SettingError, require_choice
from fsa_jax.reviews.csv_rows import csv_rows
from fsa_jax.reviews.lines import lines
from fsa_jax.reviews.parquet_files import parquet_rows
from fsa_jax.reviews.raw_row import EMPTY_LINE, NOT_UTF8, BadRow, RawRow
from fsa_jax.reviews.row_to_review import known_names

Format = Literal["jsonl", "txt", "csv", "tsv", "parquet"]
FORMATS: tuple[Format, ...] = get_args(Format)
STANDARD = Path("-")
"""Standard input or output, in place of a file."""
MAX_LINE_BYTES = 64 << 20
PROBED_ROWS = 1000
"""Number of rows at the start of a file in which columns are searched."""
EXAMPLES = 5
"""Largest number of rows without text that are named."""
_SUFFIXES: dict[str, Format] = {
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "jsonl",
    ".txt": "txt",
    ".csv": "csv",
    ".tsv": "tsv",
    ".parquet": "parquet",
    ".pq": "parquet",
}
_COMPRESSED = (".gz", ".zst")
_ARRAY_FIX = "write one object per line; for an array: jq -c '.[]' FILE"
_SHOWN_COLUMNS, _SHOWN_CHARACTERS = 30, 60
_TEXT_COLUMN = "text"
_FIRST_BYTES = 1 << 16


class Row(NamedTuple):
    """One review of an input file. The text is empty if the row has none."""

    id: str
    text: str


@dataclass(frozen=True)
class Reviews:
    """The reviews of a file.

    Attributes:
      file: file that is read; for standard input, a copy in a temporary file.
      name: its name in messages.
      format: format of the file.
      text_column: key or column of the text.
      id_column: key or column of the id; None if rows get their number, from 0.
      copy: temporary file behind ``file``, which is deleted with this object or by ``close``.
    """

    file: Path
    name: str
    format: Format
    text_column: str
    id_column: str | None
    copy: IO[bytes] | None = None

    def close(self) -> None:
        """Deletes the temporary copy of standard input."""
        if self.copy is not None:
            self.copy.close()

    def rows(self) -> Iterator[Row]:
        """The reviews in order.

        Raises:
          DataError: a row cannot be read; the message names it.
        """
        return (row for _, row, _ in self._located_rows())

    def _located_rows(self) -> Iterator[tuple[str, Row, bool]]:
        """Places and rows, and whether the row has an id of its own if the others have one."""
        for number, (where, row) in enumerate(_objects(self.file, self.format, self.name)):
            text = row.get(self.text_column)
            id = number if self.id_column is None else row.get(self.id_column)
            has_id = id is not None and id != ""
            # Blank texts are kept, since predictions quote the text unchanged.
            yield where, Row(str(id if has_id else number), text if isinstance(text, str) else ""), has_id

    def check(self) -> Checked:
        """Reads all rows once, so that a bad row is reported before a model is loaded.

        Raises:
          DataError: a row cannot be read; the message names it.
        """
        total, without_text, without_id, examples, ids = 0, 0, 0, list[str](), array("q")
        for where, row, has_id in self._located_rows():
            total += 1
            without_id += not has_id
            ids.append(hash(row.id))
            if not row.text.strip():
                without_text += 1
                examples += [where] if len(examples) < EXAMPLES else []
        repeated = total - len(np.unique(np.frombuffer(ids, np.int64)))
        return Checked(total, without_text, tuple(examples), without_id, repeated)

    def __str__(self) -> str:
        if self.format == "txt":
            return f"{self.name}: one review per line"
        ids = "the number of the row is its id" if self.id_column is None else f"id from {self.id_column!r}"
        return f"{self.name}: text from {self.text_column!r}, {ids}"


class Checked(NamedTuple):
    """Number of rows, number of rows without text and the places of the first of these, and rows with unusable ids.

    Attributes:
      without_id: number of rows without an id, in a file with a column of ids; they get their number.
      repeated_ids: number of rows with the id of an earlier row.
    """

    total: int
    without_text: int
    examples: tuple[str, ...]
    without_id: int
    repeated_ids: int

    def __str__(self) -> str:
        """What is wrong with the rows, one line each; empty if nothing is."""
        more = ", …" if self.without_text > len(self.examples) else ""
        lines = (
            (self.without_text, f"have no text: {', '.join(self.examples)}{more}"),
            (self.without_id, "have no id, and get their number in the file, from 0"),
            (self.repeated_ids, "have the same id as an earlier row"),
        )
        return "\n".join(f"{count} of {self.total} rows {what}" for count, what in lines if count)


def open_reviews(
    path: Path,
    *,
    format: Format | None = None,
    text_column: str | None = None,
    id_column: str | None = None,
) -> Reviews:
    """Finds the format and the columns of reviews in a file or on standard input.

    Args:
      path: file of reviews, also compressed (``.gz``, ``.zst``) except for Parquet; ``-`` for standard input.
      format: its format; by default the one that its suffix says. Standard input is by default JSON lines if its first
        character that is not blank is ``{`` or ``[``, otherwise one review per line.
      text_column: key or column of the text; by default the only one that has a name that ``fsa sample`` knows.
      id_column: key or column of the id; by default as for the text, or none.

    Raises:
      MissingDataError: there is no such file.
      SettingError: the format is unknown, a given column does not exist, several columns may be meant, or none, or
        standard input is a terminal.
      DataError: one of the first rows cannot be read.
    """
    file, copy = _copied_input() if path == STANDARD else (path, None)
    name = "standard input" if copy else str(path)
    if not file.is_file():
        found = "a folder" if path.is_dir() else "something else" if path.exists() else "nothing"
        raise MissingDataError(path, expected="a file of reviews", found=found, fix="check the path")
    if format is None:
        format = _format_of_lines(file) if copy else _format_of_name(path)
    require_choice("input_format", format, FORMATS, "--input-format {choice}")
    if format == "txt":
        for option, given in (("--text-column", text_column), ("--id-column", id_column)):
            if given is not None:
                raise SettingError(option, expected="no column: plain lines have none", found=given, fix="omit it")
        return Reviews(file, name, format, _TEXT_COLUMN, None, copy)
    rows = [
        {column: value is not None for column, value in row.items()}
        for _, row in islice(_objects(file, format, name), PROBED_ROWS)
    ]
    if not rows:
        return Reviews(file, name, format, text_column or _TEXT_COLUMN, id_column, copy)
    columns: dict[str, bool] = {}
    for row in rows:
        columns.update({column: filled or columns.get(column, False) for column, filled in row.items()})
    for option, given in (("--text-column", text_column), ("--id-column", id_column)):
        if given is not None and given not in columns:
            raise SettingError(option, expected=f"a column of {name}", found=repr(given), fix=_listed(columns))
    text = text_column or _known_column("text", columns, name)
    if text is None:
        raise _not_one("text", [], columns, name)
    return Reviews(file, name, format, text, id_column or _known_column("id", columns, name), copy)


def read_rows(path: Path, *, text_column: str | None = None, id_column: str | None = None) -> Iterator[Row]:
    """The reviews of a file, in order; see :func:`open_reviews` for arguments and errors."""
    return open_reviews(path, text_column=text_column, id_column=id_column).rows()


def _copied_input() -> tuple[Path, IO[bytes]]:
    """A temporary file with a copy of standard input, because all rows are read before the first prediction.

    Returns:
      The path by which it can be read, and the open file, which keeps it.

    Raises:
      SettingError: standard input is a terminal.
    """
    if sys.stdin.isatty():
        raise SettingError(
            "-",
            expected="reviews on standard input",
            found="a terminal",
            fix="give a file, or a pipe: zcat reviews.jsonl.gz | fsa predict MODEL - OUTPUT",
        )
    # On Linux the file has no name in its folder, so that nothing is left of it if this process is killed.
    by_number = Path("/proc/self/fd")
    copy = TemporaryFile() if by_number.is_dir() else NamedTemporaryFile(prefix="fsa-predict-")  # noqa: SIM115
    shutil.copyfileobj(sys.stdin.buffer, copy)
    copy.flush()
    return by_number / str(copy.fileno()) if by_number.is_dir() else Path(copy.name), copy


def _format_of_lines(path: Path) -> Format:
    """JSON lines if the first character that is not blank is a bracket of JSON, otherwise one review per line."""
    with path.open("rb") as stream:
        line = stream.readline(_FIRST_BYTES).removeprefix(b"\xef\xbb\xbf")
        while line and not line.strip():
            line = stream.readline(_FIRST_BYTES)
    return "jsonl" if line.lstrip().startswith((b"{", b"[")) else "txt"


def _format_of_name(path: Path) -> Format:
    suffixes = [suffix.lower() for suffix in path.suffixes]
    if suffixes and suffixes[-1] in _COMPRESSED:
        suffixes.pop()
    if not suffixes or suffixes[-1] not in _SUFFIXES:
        raise SettingError(
            path,
            expected=f"a name that ends in {', '.join(_SUFFIXES)} (also with {' or '.join(_COMPRESSED)})",
            found=path.suffix or "no suffix",
            fix="rename the file, or name its format: --input-format jsonl",
        )
    return _SUFFIXES[suffixes[-1]]


def _known_column(part: Literal["text", "id"], columns: dict[str, bool], name: str) -> str | None:
    """The column with a known name for a part of a review; None if there is none. Empty columns are the last choice."""
    known = [column for column in known_names(part) if column in columns]
    candidates = [column for column in known if columns[column]] or known[:1]
    if len(candidates) > 1:
        raise _not_one(part, candidates, columns, name)
    return candidates[0] if candidates else None


def _not_one(part: Literal["text", "id"], found: list[str], columns: dict[str, bool], name: str) -> SettingError:
    return SettingError(
        name,
        expected=f"one column with a known name for the {part} ({', '.join(known_names(part))})",
        found=" and ".join(found) if found else "none",
        fix=f"choose one: --{part}-column {found[0] if found else 'COLUMN'}; {_listed(columns)}",
    )


def _listed(columns: dict[str, bool]) -> str:
    shown = [repr(column[:_SHOWN_CHARACTERS]) for column in islice(columns, _SHOWN_COLUMNS)]
    more = f" and {len(columns) - len(shown)} more" if len(columns) > len(shown) else ""
    return f"the columns are {', '.join(shown) or 'none'}{more}"


def _objects(path: Path, format: Format, name: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """The places and values of rows."""
    readers: dict[Format, Callable[[Path, str], Iterator[tuple[str, Any]]]] = {
        "jsonl": _jsonl,
        "txt": _text,
        "csv": _csv,
        "tsv": _tsv,
        "parquet": _parquet,
    }
    for where, row in readers[format](path, name):
        if not isinstance(row, dict):
            raise DataError(
                where,
                expected="one JSON object in each line",
                found=type(row).__name__,
                fix=_ARRAY_FIX,
            )
        yield where, row


def _lines(path: Path, name: str) -> Iterator[tuple[str, str]]:
    """Lines that end with ``\\n`` only. A review in JSON may contain other line breaks, which do not end the row."""
    for number, line in enumerate(lines(path) if path.suffix.lower() in _COMPRESSED else _plain_lines(path), 1):
        where = f"{name}:{number}"
        if isinstance(line, BadRow):
            raise DataError(where, expected="a line that can be read", found=line.reason, fix="write the file again")
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


def _plain_lines(path: Path) -> Iterator[bytes]:
    with open(path, "rb") as stream:
        while line := stream.readline(MAX_LINE_BYTES + 1):
            yield line


def _text(path: Path, name: str) -> Iterator[tuple[str, Any]]:
    for where, line in _lines(path, name):
        yield where, {_TEXT_COLUMN: line}


def _jsonl(path: Path, name: str) -> Iterator[tuple[str, Any]]:
    for where, line in _lines(path, name):
        if not line.strip():
            continue
        try:
            yield where, untrusted_json.parse(line)
        except untrusted_json.UntrustedJsonError as error:
            fix = _ARRAY_FIX if line.lstrip().startswith("[") else "correct the line"
            raise DataError(where, expected="one JSON object", found=str(error), fix=fix) from error


def _tsv(path: Path, name: str) -> Iterator[tuple[str, Any]]:
    return _csv(path, name, "\t")


def _csv(path: Path, name: str, delimiter: str = ",") -> Iterator[tuple[str, Any]]:
    for raw in csv_rows(path, lines(path), delimiter):
        row = raw if isinstance(raw, BadRow) else raw.parse()
        where = f"{name}:{raw.line}"
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


def _parquet(path: Path, name: str) -> Iterator[tuple[str, Any]]:
    for number, raw in enumerate(parquet_rows(path), 1):
        row = raw if isinstance(raw, BadRow) else raw.parse()
        where = f"{name}: row {number}"
        if isinstance(row, BadRow):
            raise DataError(where, expected="a row that can be read", found=row.reason, fix="write the file again")
        yield where, row
