"""Reads rows of CSV and TSV files with a header line by RFC 4180, for every command. Rows that violate it are bad rows.

A row must have as many fields as the header. A quoted field may contain line ends. If its quote is never closed, or
text follows the closing quote, or the number of fields is wrong, only the first line of the row is lost: the lines
after it are read again as new rows. A quote inside a field that does not start with a quote is normal text.
"""

from __future__ import annotations

import csv
import re
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from fsa_base.errors import DataError
from fsa_jax.reviews import raw_row
from fsa_jax.reviews.raw_row import BadRow, RawRow, decode

MAX_ROW_LINES = 1000
"""Largest number of lines of a row. A quote that is not closed within this many lines counts as never closed."""

_OTHER_DELIMITERS = {";": "semicolons", "\t": "tabs"}
"""Delimiters of files that are called .csv, by their names in reports."""

_BY_THE_BOOK = {
    delimiter: re.compile(
        rf"""(?:"(?:[^"]++|"")*+"|[^"{delimiter}\r\n]*+)(?:{delimiter}(?:"(?:[^"]++|"")*+"|[^"{delimiter}\r\n]*+))*+[\r\n]*"""
    )
    for delimiter in (",", *_OTHER_DELIMITERS)
}
"""Patterns, by delimiter, of rows in which every quote encloses a field or is doubled inside one."""


class _Line(NamedTuple):
    number: int
    text: str
    repairs: tuple[str, ...]


class _Feed:
    """Gives lines to csv.reader, and can give them again if a row turns out to be broken."""

    def __init__(self, lines: Iterator[bytes | BadRow]) -> None:
        self._lines = enumerate(lines, start=1)
        self._again: deque[_Line | BadRow] = deque()
        self.taken: list[_Line] = []
        self._size = 0

    def begin(self) -> BadRow | None:
        """Begins a row; returns the next line as BadRow if it cannot be read."""
        self.taken, self._size = [], 0
        line = self._next()
        if isinstance(line, BadRow):
            return line
        self._again.appendleft(line)
        return None

    def first(self) -> str:
        """The text of the next line, which stays in the feed; empty if there is none that can be read."""
        try:
            line = self._next()
        except StopIteration:
            return ""
        self._again.appendleft(line)
        return "" if isinstance(line, BadRow) else line.text

    def take_back(self) -> int:
        """Returns all lines of the row except the first to the feed; returns the number of the last line."""
        self._again.extendleft(reversed(self.taken[1:]))
        return self.taken[-1].number

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        if len(self.taken) >= MAX_ROW_LINES or self._size > raw_row.MAX_ROW_BYTES:
            raise StopIteration
        line = self._next()
        if isinstance(line, BadRow):
            # The unreadable line is inside a quoted field, because begin() has checked the first line of the row.
            self._again.appendleft(line)
            raise StopIteration
        self.taken.append(line)
        self._size += len(line.text)
        return line.text

    def _next(self) -> _Line | BadRow:
        if self._again:
            return self._again.popleft()
        number, line = next(self._lines)
        if isinstance(line, BadRow):
            return BadRow(line.reason, line.rows, number)
        text, repairs = decode(line)
        return BadRow("CSV row with a NUL", line=number) if "\0" in text else _Line(number, text, repairs)


def csv_rows(path: Path, lines: Iterator[bytes | BadRow], delimiter: str) -> Iterator[RawRow | BadRow]:
    """Rows after the header. Every line of the file belongs to exactly one row.

    Args:
      path: path of the file, for error messages.
      lines: lines of the file, from lines.py.
      delimiter: comma or tab. If it is a comma and the first line has none, but a semicolon or tab, this is used, and
        reported with each row.

    Raises:
      DataError: there is no header, or two of its columns have the same name.
    """
    # The default limit of the csv module is less than a long review. The limit is global to the process.
    csv.field_size_limit(max(csv.field_size_limit(), 4 * raw_row.MAX_ROW_BYTES))
    feed = _Feed(lines)
    first, instead = feed.first(), ()
    if delimiter == "," and delimiter not in first:
        delimiter = next((other for other in _OTHER_DELIMITERS if other in first), delimiter)
        instead = (f"fields separated by {_OTHER_DELIMITERS[delimiter]}",) if delimiter != "," else ()
    reader = csv.reader(feed, delimiter=delimiter, strict=True)
    header = _header(path, feed, reader)
    columns = [(index, name) for index, name in enumerate(header) if name]
    by_the_book = _BY_THE_BOOK[delimiter]
    # Lines after a broken row are doubtful until one is a valid row, because they may be the rest of the broken row.
    doubtful_until, doubtful = 0, False
    while True:
        try:
            bad = feed.begin()
            if bad is not None:
                yield bad
                continue
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            doubtful_until, doubtful = max(doubtful_until, feed.take_back()), True
            yield BadRow(_reason(error), line=feed.taken[0].number)
            continue
        number = feed.taken[0].number
        repairs = [*instead, *(repair for line in feed.taken for repair in line.repairs)]
        text = "".join(line.text for line in feed.taken)
        if '"' in text and not by_the_book.fullmatch(text):
            if doubtful:
                feed.take_back()
                yield BadRow("rest of a broken CSV row", line=number)
                continue
            repairs.append("quote inside a CSV field without quotes, kept")
        if not cells:
            yield BadRow(raw_row.EMPTY_LINE, line=number)
        elif len(cells) != len(header):
            # If the row has several lines, an open quote may have swallowed other rows.
            if len(feed.taken) > 1:
                doubtful_until, doubtful = max(doubtful_until, feed.take_back()), True
            yield BadRow("CSV row with another number of columns than its header", line=number)
        else:
            doubtful = doubtful and number <= doubtful_until
            yield RawRow(
                lambda cells=cells: {name: cells[index] for index, name in columns},
                tuple(dict.fromkeys(repairs)),
                number,
            )


def _header(path: Path, feed: _Feed, reader: Iterator[list[str]]) -> list[str]:
    found, header = "none", []
    try:
        bad = feed.begin()
        if bad is not None:
            found = bad.reason
        else:
            header = next(reader)
    except StopIteration:
        pass
    except csv.Error as error:
        found = _reason(error)
    if not any(header):
        raise DataError(path, expected="a header line with column names", found=found, fix="add one")
    names = [name for name in header if name]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise DataError(
            f"{path}:1", expected="columns with different names", found=f"twice: {', '.join(twice)}", fix="rename one"
        )
    return header


def _reason(error: csv.Error) -> str:
    message = str(error)
    if "unexpected end" in message:
        return "CSV quote that is not closed"
    if "new-line" in message:
        return "carriage return inside a CSV field without quotes"
    return "text after the closing quote of a CSV field" if "expected after" in message else "broken CSV row"
