"""A row as a reader hands it on: not yet parsed, or why it cannot be."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

MAX_ROW_BYTES = 4_000_000
"""Longer rows are dropped, lines unread: one missing newline or quote must not fill the memory."""

EMPTY_LINE = "empty line"
NOT_UTF8 = "not UTF-8, read as Windows-1252"


@dataclass(frozen=True)
class BadRow:
    """A row that cannot be read, and why (one of few fixed phrases, so that reasons can be counted)."""

    reason: str
    rows: int = field(default=1, compare=False)
    """How many rows are lost by it."""
    line: int | None = field(default=None, compare=False)
    """Line of the file, from 1, where it is not the row's number."""


@dataclass(frozen=True)
class RawRow:
    """A row before it is parsed: parsing costs most, and the second pass needs few of the rows."""

    parse: Callable[[], Mapping[str, Any] | BadRow]
    repairs: tuple[str, ...] = ()
    """What had to be fixed to read it at all, such as a wrong encoding."""
    line: int | None = None
    """First line of the row in the file, from 1, where it is not the row's number."""


def decode(line: bytes) -> tuple[str, tuple[str, ...]]:
    """Text of a line and what was fixed: UTF-8, else Windows-1252 (a superset of what Latin-1 dumps use)."""
    try:
        return line.decode("utf-8"), ()
    except UnicodeDecodeError:
        return line.decode("cp1252", errors="replace"), (NOT_UTF8,)
