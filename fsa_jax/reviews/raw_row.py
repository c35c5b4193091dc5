"""Rows as the readers return them: not yet parsed, or with the reason why they cannot be read."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

MAX_ROW_BYTES = 4_000_000
"""Longer rows are dropped without reading them, so that a missing newline or quote cannot fill the memory."""

EMPTY_LINE = "empty line"
NOT_UTF8 = "not UTF-8, read as Windows-1252"


@dataclass(frozen=True)
class BadRow:
    """A row that cannot be read, with a reason (one of few fixed phrases, so that reasons can be counted)."""

    reason: str
    rows: int = field(default=1, compare=False)
    """Number of lost rows."""
    line: int | None = field(default=None, compare=False)
    """Line number in the file, from 1, if it differs from the row number."""


@dataclass(frozen=True)
class RawRow:
    """A row before parsing. Parsing is the slowest step, and the second pass needs only few rows."""

    parse: Callable[[], Mapping[str, Any] | BadRow]
    repairs: tuple[str, ...] = ()
    """What was fixed to read the row, such as a wrong encoding."""
    line: int | None = None
    """Number of the row's first line in the file, from 1, if it differs from the row number."""


def decode(line: bytes) -> tuple[str, tuple[str, ...]]:
    """Decodes a line as UTF-8, else as Windows-1252 (for Latin-1 dumps); also returns what was fixed."""
    try:
        return line.decode("utf-8"), ()
    except UnicodeDecodeError:
        return line.decode("cp1252", errors="replace"), (NOT_UTF8,)
