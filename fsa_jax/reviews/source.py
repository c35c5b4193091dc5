"""Sources of reviews: files, folders and TFDS datasets, read row by row, with every loss counted."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from pathlib import Path

from fsa_base.errors import SettingError
from fsa_jax.common.records import Review
from fsa_jax.reviews.domains import DomainRules
from fsa_jax.reviews.dump_rows import expand, raw_rows
from fsa_jax.reviews.filters import Filters
from fsa_jax.reviews.raw_row import BadRow, RawRow
from fsa_jax.reviews.row_to_review import Fields, Parsed, parse_review

EXAMPLES = 5
"""Largest number of places (file and row) in the report for each reason."""
PROBED_ROWS = 1000
"""Number of rows at the start of a file that are read to find out which of the user's columns it has."""


@dataclass(frozen=True)
class Source:
    """A source of reviews as the user types it: ``[DOMAIN=]PATH`` or ``[DOMAIN=]tfds:NAME[:SPLIT]``."""

    location: str
    domain: str | None = None

    @classmethod
    def parse(cls, text: str) -> Source:
        domain, separator, location = text.partition("=")
        # A path may contain "=" (Hive-style folders); the name of a domain contains no path separator.
        if separator and "/" not in domain and "." not in domain and not os.path.exists(text):
            if not domain or not location:
                raise SettingError("sources", expected="PATH or DOMAIN=PATH", found=repr(text), fix="fill both sides")
            return cls(location, domain)
        return cls(text)

    def parts(self) -> list[tuple[str, Callable[[], Iterator[RawRow | BadRow]]]]:
        """Names of the source's files, each with a function that reads its rows from the start."""
        if self.location.startswith("tfds:"):
            from fsa_jax.reviews.tfds_rows import tfds_rows

            return [(self.location, lambda: tfds_rows(self.location))]
        # A name that is not UTF-8 could not be written to a report.
        return [
            (str(file).encode("utf-8", "backslashreplace").decode(), partial(raw_rows, file)) for file in self.files()
        ]

    def files(self) -> list[Path]:
        """The files of the source; none for TFDS.

        Raises:
          DataError: there is no such file or folder, or the folder has no dump.
        """
        return [] if self.location.startswith("tfds:") else expand(self.location)


@dataclass(frozen=True)
class Part:
    """One file of a source, with the columns of a review's parts."""

    name: str
    rows: Callable[[], Iterator[RawRow | BadRow]]
    source: Source
    fields: Fields


@dataclass
class Losses:
    """Counts of dropped and fixed rows by reason, with a few places for each reason (never the text itself).

    ``read`` is the sum of ``kept`` and of all dropped rows.
    """

    read: int = 0
    kept: int = 0
    dropped: Counter[str] = field(default_factory=Counter)
    repaired: Counter[str] = field(default_factory=Counter)
    places: dict[str, list[str]] = field(default_factory=dict)

    def drop(self, reason: str, place: str, rows: int = 1) -> None:
        self.dropped[reason] += rows
        self._note(reason, place)

    def repair(self, reason: str, place: str) -> None:
        self.repaired[reason] += 1
        self._note(reason, place)

    def _note(self, reason: str, place: str) -> None:
        examples = self.places.setdefault(reason, [])
        if len(examples) < EXAMPLES:
            examples.append(place)


def row_count(raw: RawRow | BadRow) -> int:
    """Number of rows of a file that a raw row or bad row stands for."""
    return raw.rows if isinstance(raw, BadRow) else 1


@dataclass(frozen=True)
class ReviewReader:
    """Turns raw rows into reviews of known domain that pass the filters.

    Args:
      fields: columns of a review's parts, for the files that have such columns.
      filters: conditions that a review must meet.
      rules: categories by domain.
      catalog: domain by item, for dumps whose reviews have only an item.
      domains: domains to keep; None keeps all, including reviews of unknown domain.
    """

    fields: Fields
    filters: Filters
    rules: DomainRules
    catalog: Mapping[str, str]
    domains: frozenset[str] | None = None

    def parts(self, sources: list[Source]) -> list[Part]:
        """The files of all sources, in order.

        Raises:
          DataError: the format of a file does not fit its name.
          SettingError: no file has a column that the user named.
        """
        parts = []
        for source in sources:
            for name, rows in source.parts():
                parsed = (raw.parse() for raw in islice(rows(), PROBED_ROWS) if isinstance(raw, RawRow))
                fields = self.fields.present(row for row in parsed if not isinstance(row, BadRow))
                parts.append(Part(name, rows, source, fields))
        for part, column in self.fields.columns.items():
            if not any(part in one.fields.columns for one in parts):
                raise SettingError(
                    "--columns",
                    expected=f"a column {column!r} ({part}) in a source",
                    found=f"none in the first {PROBED_ROWS:,} rows of any",
                    fix="correct its name",
                )
        return parts

    def review(self, raw: RawRow | BadRow, part: Part) -> tuple[Review | None, str | None, tuple[str, ...]]:
        """The review of a row or None, the reason if it is dropped, and what was fixed."""
        row = raw if isinstance(raw, BadRow) else raw.parse()
        parsed = row if isinstance(row, BadRow) else parse_review(row, part.fields)
        repairs = () if isinstance(raw, BadRow) else raw.repairs
        if isinstance(parsed, BadRow):
            return None, parsed.reason, repairs
        repairs += parsed.repairs
        domain = part.source.domain or self._domain(parsed)
        if self.domains is not None and domain not in self.domains:
            return None, "domain unknown" if domain is None else "domain not wanted", repairs
        if reason := self.filters.refuse(parsed.review.text):
            return None, reason, repairs
        return parsed.review.model_copy(update={"domain": domain}), None, repairs

    def _domain(self, parsed: Parsed) -> str | None:
        if parsed.review.domain:
            return parsed.review.domain
        if parsed.item is not None and parsed.item in self.catalog:
            return self.catalog[parsed.item]
        return self.rules.domain(parsed.categories)
