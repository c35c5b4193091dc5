"""CSV with one label per row, also with tabs or semicolons. Rows with the same text (and id, if any) are one sentence.

::

    text,target,category,polarity,from,to,opinion
    The bread was good but nobody smiled.,bread,food,positive,4,9,good
    The bread was good but nobody smiled.,NULL,service,negative,,,NULL
    We went there on Monday.,,,,,,

A row without target, category and polarity is a sentence without opinions.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from fsa_base.errors import DataError
from fsa_jax.labels import json_lines
from fsa_jax.labels.raw import NULL, Notes, RawLabel, RawSentence, UnusableLabels, grouped, named
from fsa_jax.reviews import raw_row
from fsa_jax.reviews.csv_rows import csv_rows
from fsa_jax.reviews.raw_row import BadRow

_COLUMNS = {
    "id": (*json_lines.ID, "sentenceid"),
    "text": json_lines.TEXT,
    "target": json_lines.TARGET,
    "category": json_lines.CATEGORY,
    "polarity": (*json_lines.POLARITY, "label"),
    "start": json_lines.START,
    "end": json_lines.END,
    "opinion": json_lines.OPINIONS,
}


def columns_of(header: list[str]) -> dict[str, str] | None:
    """The columns by what they hold; None if the header has no text, no polarity, or neither target nor category."""
    by_name = {re.sub(r"[\s_-]+", "_", name.strip().lower()): name for name in reversed(header)}
    found = {
        kind: next((by_name[name.lower()] for name in names if name.lower() in by_name), None)
        for kind, names in _COLUMNS.items()
    }
    known = {kind: column for kind, column in found.items() if column is not None}
    return known if {"text", "polarity"} <= known.keys() and {"target", "category"} & known.keys() else None


def read(text: str, notes: Notes) -> Iterator[RawSentence]:
    """Reads a table with a header line.

    Raises:
      UnusableLabels: a row is broken, the header lacks a column, or an offset is no number.
    """
    return grouped(_rows(text, notes))


def _rows(text: str, notes: Notes) -> Iterator[tuple[str, RawSentence]]:
    lines: list[bytes | BadRow] = [line + b"\n" for line in text.encode().split(b"\n")]
    columns: dict[str, str] | None = None
    try:
        for row in csv_rows(Path("table"), iter(lines), ","):
            if isinstance(row, BadRow):
                if row.reason == raw_row.EMPTY_LINE:
                    continue
                raise UnusableLabels(row.line, "a row with as many fields as the header", row.reason)
            cells = row.parse()
            assert not isinstance(cells, BadRow)
            line = row.line or 1
            if columns is None:
                columns = columns_of(list(cells))
                if columns is None:
                    raise _no_columns(list(cells))
            for repair in row.repairs:
                if not repair.startswith("fields separated"):
                    notes.add(f"rows with a {repair}")
            yield _row(cells, columns, line)
    except DataError as error:  # of the header
        raise UnusableLabels(1, error.expected, error.found) from None


def _no_columns(header: list[str]) -> UnusableLabels:
    return UnusableLabels(
        1, "columns text, polarity, and target or category (or both)", f"columns {', '.join(header)[:120]}"
    )


def _row(cells: Mapping[str, str], columns: Mapping[str, str], line: int) -> tuple[str, RawSentence]:
    values = {kind: cells[column] for kind, column in columns.items()}
    text, identity = values["text"], values.get("id", "").strip() or None
    target, category = values.get("target", ""), named(values.get("category"))
    polarity = values["polarity"].strip()
    labels: tuple[RawLabel, ...] = ()
    if polarity or target.strip() or category:
        start, end = (_offset(values.get(name, ""), name, line) for name in ("start", "end"))
        opinion = named(values.get("opinion"))
        label = RawLabel(
            line,
            polarity,
            # Without a category, an empty cell would be a label about nothing; NULL says that this is meant.
            has_target="target" in columns and bool(target.strip() or category),
            target=target,
            category=category,
            start=start,
            end=end,
            opinions=((opinion,) if opinion else ()) if "opinion" in columns else None,
        )
        if not (label.has_target or category):
            raise UnusableLabels(line, f"a target ({NULL} for none that is named) or a category", "neither")
        labels = (label,)
    # An id may stand for a review of several sentences.
    return f"{identity}\0{text}", RawSentence(line, text, labels, identity)


def _offset(cell: str, name: str, line: int) -> int | None:
    cell = cell.strip()
    if not cell:
        return None
    # Spreadsheets write 4.0 for a 4 in a column with empty cells.
    whole = re.fullmatch(r"(\d{1,9})(?:\.0)?", cell, re.ASCII)
    if not whole:
        raise UnusableLabels(line, f"a character offset in the column {name!r}", repr(cell)[:80])
    return int(whole[1])
