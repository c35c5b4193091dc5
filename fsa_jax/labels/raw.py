"""Labelled sentences as the readers of the formats return them: parsed, but not yet checked against their text."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

MAX_FILE_BYTES = 200_000_000
MAX_LINE_CHARACTERS = 1_000_000
MAX_TEXT_CHARACTERS = 100_000
"""Largest text of one sentence; the longest reviews have about 30,000 characters."""
NULL = "NULL"
"""How the field writes a term or opinion words that the sentence does not name."""

_LINE_END = re.compile(r"\r\n|\n|\r")


class UnusableLabels(Exception):
    """A file's content is not what its format says; the caller adds the path.

    Attributes:
      line: number of the line, from 1; None if the whole file is meant.
      expected: what was expected there.
      found: what was found; may quote the file.
    """

    def __init__(self, line: int | None, expected: str, found: str) -> None:
        super().__init__(line, expected, found)
        self.line = line
        self.expected = expected
        self.found = found


@dataclass(frozen=True, slots=True)
class RawLabel:
    """One label as written.

    Attributes:
      line: line of the file, from 1.
      polarity: the polarity as written (``positive``, ``POS``, ``-1`` …); None if the format marks a term without one.
      has_target: whether the format says which term is meant, or that none is.
      target: the term as written; None if the sentence does not name it, or if ``has_target`` is false.
      category: the aspect category; None without one.
      start, end: offsets of the term in characters, end exclusive; None if the file has none.
      opinions: the opinion words; empty if the label has none, None if they are not annotated.
      problem: what was expected and what was found, if this label cannot be used, but the rest of its line can.
    """

    line: int
    polarity: str | None
    has_target: bool = False
    target: str | None = None
    category: str | None = None
    start: int | None = None
    end: int | None = None
    opinions: tuple[str, ...] | None = None
    problem: tuple[str, str] | None = None


@dataclass(frozen=True, slots=True)
class RawSentence:
    """One sentence with its labels, as written.

    Attributes:
      line: line of the file on which it begins, from 1.
      text: the sentence.
      labels: its labels; empty if it has no opinion.
      id: its id in the file; None without one.
      unlabelled: why the sentence has no annotation at all (a few fixed words), which is not the same as no opinion;
        None if it is annotated.
    """

    line: int
    text: str
    labels: tuple[RawLabel, ...] = ()
    id: str | None = None
    unlabelled: str | None = None


@dataclass
class Notes:
    """What a reader repaired or left out, counted by a few fixed words.

    Attributes:
      lenient: whether a reader may leave out lines that it cannot read.
    """

    lenient: bool = False
    counts: dict[str, int] = field(default_factory=dict)

    def add(self, what: str, count: int = 1) -> None:
        self.counts[what] = self.counts.get(what, 0) + count


def lines_of(text: str) -> Iterator[tuple[int, str]]:
    """The lines of a text with their numbers, from 1, with blank lines.

    Raises:
      UnusableLabels: a line is longer than MAX_LINE_CHARACTERS.
    """
    at = 0
    number = 1
    for match in _LINE_END.finditer(text):
        yield number, _checked(text[at : match.start()], number)
        at, number = match.end(), number + 1
    if at < len(text):
        yield number, _checked(text[at:], number)


def _checked(line: str, number: int) -> str:
    if len(line) > MAX_LINE_CHARACTERS:
        raise UnusableLabels(
            number, f"a line of at most {MAX_LINE_CHARACTERS:,} characters", f"{len(line):,} characters"
        )
    return line


def named(value: str | None) -> str | None:
    """A term, category or opinion words without surrounding space; None if empty or ``NULL``."""
    value = (value or "").strip()
    return None if not value or value == NULL else value


def grouped(rows: Iterator[tuple[str, RawSentence]]) -> Iterator[RawSentence]:
    """Joins rows with one label each to sentences.

    Args:
      rows: rows with a key, which is the same for the rows of one sentence, such as its text.
    """
    by_key: dict[str, list[RawSentence]] = {}
    for key, row in rows:
        by_key.setdefault(key, []).append(row)
    for first, *others in by_key.values():
        labels = [*first.labels, *(label for other in others for label in other.labels)]
        yield RawSentence(first.line, first.text, tuple(labels), first.id, first.unlabelled)
