"""Sources of reviews: files, folders and TFDS datasets, read row by row, with every loss counted."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from fsa_base.errors import SettingError
from fsa_jax.common.records import Review
from fsa_jax.reviews.domains import DomainRules
from fsa_jax.reviews.dump_rows import expand, raw_rows
from fsa_jax.reviews.filters import Filters
from fsa_jax.reviews.raw_row import BadRow, RawRow
from fsa_jax.reviews.row_to_review import PROBED_ROWS, Fields, Parsed, Probe, parse_review, probe, unclear_scale
from fsa_jax.reviews.stars import AUTO, Ratings, Scale, parse_scale

EXAMPLES = 5
"""Largest number of places (file and row) in the report for each reason."""
_LISTED_CHARACTERS = 500
"""Limit on the list of columns in an error message."""
_FIX_SCALE = (
    "state the scale: --stars-scale 0-10, 1-10 or 0-1 (0 is thumbs down), or --stars-scale unchanged, which keeps 0 to "
    "5 and drops other ratings (docs/sampling.md)"
)


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
    """One file of a source, and what its first rows show about it.

    Attributes:
      ratings: counts of the ratings that were read so far.
      states_scale: whether the user stated the scale of the stars.
    """

    name: str
    rows: Callable[[], Iterator[RawRow | BadRow]]
    source: Source
    probe: Probe
    states_scale: bool = False
    ratings: Ratings = field(default_factory=Ratings)

    @property
    def fields(self) -> Fields:
        """The columns of a review's parts, and the scale of the stars."""
        return self.probe.fields

    def check_scale(self) -> None:
        """Checks, after the whole file was read, that all its ratings fit the scale that its first rows show.

        Raises:
          DataError: they show another scale.
        """
        if not self.states_scale and self.ratings.scale() != self.fields.scale:
            raise unclear_scale(self.name, self.ratings, self.fields.scale, _FIX_SCALE)


class StarsScales:
    """The scales of stars that a user states: one for all sources, or by domain, path or file name.

    Args:
      stated: ``SCALE`` or ``NAME=SCALE``, or several; see ``stars.parse_scale``.

    Raises:
      SettingError: a scale is unknown, or a name or the scale for all others is there twice.
    """

    def __init__(self, stated: str | Sequence[str] = AUTO) -> None:
        self._scales: dict[str, Scale | None] = {}
        self._used: set[str] = set()
        for text in [stated] if isinstance(stated, str) else stated:
            name, _, scale = text.rpartition("=")
            if name in self._scales:
                raise SettingError("--stars-scale", expected="one scale for each name", found=repr(text), fix="omit it")
            self._scales[name] = parse_scale(scale)

    def of(self, source: Source, name: str) -> Scale | None:
        """The scale of one file of a source; None if it is to be decided from its ratings."""
        for key in (name, Path(name).name, source.location, source.domain):
            if key and key in self._scales:
                self._used.add(key)
                return self._scales[key]
        return self._scales.get("")

    def refuse_unused(self) -> None:
        """Raises a SettingError if a name fits no file for which :meth:`of` was called."""
        if unused := sorted(self._scales.keys() - self._used - {""}):
            raise SettingError(
                "--stars-scale",
                expected="the domain, the path or the file name of a source",
                found=", ".join(unused),
                fix="correct the name, or write only the scale, for all sources",
            )


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


def shown_losses(reasons: Mapping[str, int], probes: Iterable[Probe]) -> str:
    """Reasons why no row of some files can be used, and the columns of these files, for an error."""
    found = ", ".join(f"{reason} {count:,}" for reason, count in sorted(reasons.items())) or "no row"
    return f"{found} (columns: {shown_columns(probes)})"


def shown_columns(probes: Iterable[Probe]) -> str:
    """The columns of some files, for an error."""
    return "; ".join(dict.fromkeys(one.shown_names for one in probes))[:_LISTED_CHARACTERS]


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
      stars_scale: scales of the stars, for the files whose scale is not to be decided from their ratings.
    """

    fields: Fields
    filters: Filters
    rules: DomainRules
    catalog: Mapping[str, str]
    domains: frozenset[str] | None = None
    stars_scale: str | Sequence[str] = AUTO

    def parts(self, sources: list[Source]) -> list[Part]:
        """The files of all sources, in order.

        Raises:
          DataError: the format of a file does not fit its name, or the scale of its stars cannot be decided.
          SettingError: no file has a column that the user named.
        """
        parts = []
        scales = StarsScales(self.stars_scale)
        for source in sources:
            for name, rows in source.parts():
                scale = scales.of(source, name)
                probed = probe(rows, self.fields, scale)
                if probed.fields.scale is None:
                    raise unclear_scale(name, probed.ratings, None, _FIX_SCALE)
                parts.append(Part(name, rows, source, probed, scale is not None))
        scales.refuse_unused()
        for part, column in self.fields.columns.items():
            if not any(part in one.fields.columns for one in parts):
                listed = shown_columns(one.probe for one in parts[:3])
                raise SettingError(
                    "--columns",
                    expected=f"a column {column!r} ({part}) in a source",
                    found=f"none in the first {PROBED_ROWS:,} rows of any; columns: {listed}",
                    fix="correct its name",
                )
        return parts

    def review(self, raw: RawRow | BadRow, part: Part) -> tuple[Review | None, str | None, tuple[str, ...]]:
        """The review of a row or None, the reason if it is dropped, and what was fixed."""
        row = raw if isinstance(raw, BadRow) else raw.parse()
        if not isinstance(row, BadRow):
            part.ratings.add(part.fields.rating(row), part.fields.scale)
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
