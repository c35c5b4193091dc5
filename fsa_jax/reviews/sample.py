"""Stratified sampling of reviews in two passes over the sources; memory depends only on the size of the sample.

The first pass gives every suitable review a priority and keeps, for each stratum, the row numbers with the lowest
priorities (distinct_sample.py). The second pass reads only these candidates, stores them in a temporary file and
removes near duplicates. The remaining candidates with the lowest priorities are the sample. They are written in random
order, so that the first reviews of the file have the same proportions as the whole sample on average, and a teacher
may stop anywhere.
"""

from __future__ import annotations

import math
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, get_args

import numpy as np

from fsa_base.errors import DataError, require_choice, require_number
from fsa_jax.common.records import Review
from fsa_jax.reviews.distinct_sample import DistinctSample
from fsa_jax.reviews.near_duplicates import PERMUTATIONS, near_duplicates, signature
from fsa_jax.reviews.parquet_files import write_reviews
from fsa_jax.reviews.raw_row import BadRow, RawRow
from fsa_jax.reviews.row_to_review import content_id
from fsa_jax.reviews.source import Losses, Part, ReviewReader, Source, row_count, shown_columns, shown_losses
from fsa_jax.reviews.stars import Scale
from fsa_jax.reviews.strata import Limit, Shortfall, Stratum, quotas, settle, strata_shares
from fsa_jax.text.words import hash64, priority
from fsa_jax.text.words import implicit_share as estimate_implicit_share

RESERVE = 0.25
"""Share of additional candidates per stratum, to replace near duplicates and copies in other strata."""


@dataclass(frozen=True)
class SampleSettings:
    """Settings of a sample.

    Args:
      size: number of reviews.
      stars_ratio: weights by star rating, rounded to whole stars (halves are rounded up); None for no
        stratification by rating.
      domain_ratio: weights by domain; None for no stratification by domain.
      implicit_share: share of reviews with mostly implicit sentiment, 0 to 1; None for no stratification by it.
      implicit_threshold: a review is implicit if at least this share of its sentences has no opinion word.
      near_duplicates: two reviews with at least this similarity (0 to 1) are near duplicates; None keeps them.
      shortfall: what to do if a stratum has too few reviews (strata.settle).
      seed: random seed; another seed draws another sample.
    """

    size: int
    stars_ratio: dict[str, float] | None
    domain_ratio: dict[str, float] | None
    implicit_share: float | None
    implicit_threshold: float
    near_duplicates: float | None
    shortfall: Shortfall
    seed: int

    def __post_init__(self):
        require_number("size", self.size, 1)
        require_number("implicit_threshold", self.implicit_threshold, 0, 1, above=True)
        require_number("near_duplicates", self.near_duplicates, 0, 1, above=True)
        require_choice("shortfall", self.shortfall, get_args(Shortfall), "use {choice}")

    def stratum(self, review: Review) -> Stratum | str:
        """The stratum of a review, or the reason why it has none."""
        stars = None
        if self.stars_ratio is not None:
            if review.stars is None:
                return "no stars"
            stars = math.floor(review.stars + 0.5)
        implicit = None
        if self.implicit_share is not None:
            implicit = estimate_implicit_share(review.text) >= self.implicit_threshold
        return Stratum(review.domain if self.domain_ratio is not None else None, stars, implicit)


@dataclass
class SampleReport:
    """Counts of what was read, dropped, fixed and taken."""

    losses: dict[str, Losses]
    """Losses by file."""
    asked: dict[Stratum, int] = field(default_factory=dict)
    fit: Counter[Stratum] = field(default_factory=Counter)
    """Number of reviews that passed the filters, copies included, by stratum."""
    taken: Counter[Stratum] = field(default_factory=Counter)
    limits: dict[Stratum, Limit] = field(default_factory=dict)
    """Why strata have fewer reviews than asked."""
    dropped_candidates: Counter[str] = field(default_factory=Counter)
    """Losses among the candidates by reason (exact and near duplicates), and the reviews not drawn.

    Their sum plus the number of taken reviews is the number of reviews that passed the filters.
    """
    columns: dict[str, dict[str, str]] = field(default_factory=dict)
    """Columns of the parts of a review (id, text, stars …), by file."""
    stars: dict[str, dict[Scale, int]] = field(default_factory=dict)
    """Number of ratings by the scale from which they were mapped, by file."""
    size: int = 0
    shared_ids: int = 0
    """Number of reviews of the sample that had the same id as another one, and got an id of their own."""


def sample(
    sources: list[Source],
    reader: ReviewReader,
    settings: SampleSettings,
    output: Path,
    progress: Callable[[str, int], None] = lambda phase, rows: None,
    allow_empty_sources: bool = False,
) -> SampleReport:
    """Draws the sample and writes it as Parquet (parquet_files.py).

    Args:
      sources: sources of reviews. They are read twice and must not change meanwhile.
      reader: parses and filters rows.
      settings: settings of the sample.
      output: Parquet file to write; it is complete only after this function returns.
      progress: called every 1,000 rows with the phase (``scan`` or ``collect``) and the number of rows read so far.
      allow_empty_sources: whether to continue if a source gives no review.

    Raises:
      DataError: a source gives no review; a stratum has too few reviews and ``settings.shortfall`` is ``error``; no
        review passes the filters; the scale of a file's stars is unclear; or a source changed between the passes.
      SettingError: a ratio is invalid.
    """
    shares = strata_shares(settings.stars_ratio, settings.domain_ratio, settings.implicit_share)
    asked = quotas(shares, settings.size)
    parts = reader.parts(sources)
    report = SampleReport(
        losses={part.name: Losses() for part in parts},
        columns={part.name: dict(part.probe.found) for part in parts},
        asked=asked,
    )
    drawn = {stratum: DistinctSample(quota + math.ceil(RESERVE * quota) + 8) for stratum, quota in asked.items()}
    kept_of: Counter[Source] = Counter()
    for number, (part, row, raw) in enumerate(_rows(parts, progress, "scan")):
        losses = report.losses[part.name]
        losses.read += row_count(raw)
        place = f"row {row}" + (f" (line {raw.line})" if raw.line else "")
        review, reason, repairs = reader.review(raw, part)
        for repair in repairs:
            losses.repair(repair, place)
        stratum = reason or settings.stratum(review)  # pyright: ignore[reportArgumentType]
        if isinstance(stratum, str):
            losses.drop(stratum, place, row_count(raw))
        elif stratum not in drawn:
            losses.drop("stratum not asked for", place)
        else:
            losses.kept += 1
            kept_of[part.source] += 1
            report.fit[stratum] += 1
            drawn[stratum].offer(priority(review.text, settings.seed), number)  # pyright: ignore
    for part in parts:
        part.check_scale()
        report.stars[part.name] = dict(part.ratings.used.most_common())
    for source in sources:
        if not kept_of[source] and not (allow_empty_sources and kept_of):
            raise _gives_nothing(source, parts, report.losses, reader.domains, has_others=bool(kept_of))

    found = {stratum: bottom.candidates() for stratum, bottom in drawn.items()}
    report.dropped_candidates["exact duplicate"] = sum(bottom.duplicates for bottom in drawn.values())
    with tempfile.TemporaryFile(dir=_folder(output)) as aside:
        candidates = _collect(parts, reader, settings, found, aside, progress)
        kept = _without_duplicates(candidates, settings, report.dropped_candidates)
        available = Counter(candidates.strata[candidates.stratum_of[i]] for i in kept)
        wanted = settle(shares, settings.size, available, settings.shortfall)
        chosen = []
        for i in kept:
            stratum = candidates.strata[candidates.stratum_of[i]]
            if report.taken[stratum] < wanted[stratum]:
                report.taken[stratum] += 1
                chosen.append(i)
        report.dropped_candidates["reserve not needed"] = len(kept) - len(chosen)
        fit, accounted = report.fit.total(), len(chosen) + report.dropped_candidates.total()
        report.dropped_candidates["not drawn"] = fit - accounted
        for stratum, quota in asked.items():
            if available[stratum] < quota:
                report.limits[stratum] = "duplicates" if drawn[stratum].is_full else "short"
            elif report.taken[stratum] < quota:
                report.limits[stratum] = "ratio"
        order = np.random.default_rng(settings.seed % 2**64).permutation(np.asarray(chosen))
        ids, counts = np.unique(candidates.ids[order], return_counts=True)
        shared = np.isin(candidates.ids, ids[counts > 1])
        report.shared_ids = int(shared[order].sum())
        report.size = write_reviews(
            output, (_with_own_id(candidates.read(aside, i)) if shared[i] else candidates.read(aside, i) for i in order)
        )
    return report


@dataclass(frozen=True)
class _Candidates:
    """Candidates by position in the temporary file; arrays of shape [n]."""

    strata: list[Stratum]
    stratum_of: np.ndarray
    priorities: np.ndarray
    ids: np.ndarray
    offsets: np.ndarray
    """Shape [n + 1]."""
    signatures: np.ndarray | None

    def read(self, aside: IO[bytes], index: int) -> Review:
        aside.seek(int(self.offsets[index]))
        return Review.model_validate_json(aside.read(int(self.offsets[index + 1] - self.offsets[index])))


def _collect(
    parts: list[Part],
    reader: ReviewReader,
    settings: SampleSettings,
    found: dict[Stratum, tuple[np.ndarray, np.ndarray]],
    aside: IO[bytes],
    progress: Callable[[str, int], None],
) -> _Candidates:
    """The second pass: reads the candidates into a temporary file, and collects what is needed to compare them."""
    strata = list(found)
    priorities = np.concatenate([found[stratum][0] for stratum in strata])
    numbers = np.concatenate([found[stratum][1] for stratum in strata])
    stratum_of = np.repeat(np.arange(len(strata)), [len(found[stratum][1]) for stratum in strata])
    by_number = np.argsort(numbers)
    priorities, numbers, stratum_of = priorities[by_number], numbers[by_number], stratum_of[by_number]
    count = len(numbers)
    ids = np.empty(count, np.uint64)
    offsets = np.zeros(count + 1, np.int64)
    signatures = np.empty((count, PERMUTATIONS), np.uint32) if settings.near_duplicates is not None else None
    done = 0
    for number, (part, _, raw) in enumerate(_rows(parts, progress, "collect")):
        if done == count:
            break
        if number != numbers[done]:
            continue
        review, _, _ = reader.review(raw, part)
        if review is None or priority(review.text, settings.seed) != int(priorities[done]):
            raise _changed(part.name)
        offsets[done + 1] = offsets[done] + aside.write(review.model_dump_json().encode())
        ids[done] = hash64(review.id)
        if signatures is not None:
            signatures[done] = signature(review.text)
        done += 1
    if done < count:
        raise _changed(", ".join(part.name for part in parts))
    return _Candidates(strata, stratum_of, priorities, ids, offsets, signatures)


def _without_duplicates(candidates: _Candidates, settings: SampleSettings, dropped: Counter[str]) -> list[int]:
    """Candidates by priority, without repeated texts and near duplicates."""
    order = np.argsort(candidates.priorities, kind="stable")
    alike = np.zeros(len(order), bool)
    if candidates.signatures is not None and settings.near_duplicates is not None:
        alike = near_duplicates(candidates.signatures, order, settings.near_duplicates)
    kept: list[int] = []
    texts: set[int] = set()
    for i in map(int, order):
        text = int(candidates.priorities[i])
        if text in texts:
            dropped["exact duplicate"] += 1
        elif alike[i]:
            dropped["near duplicate"] += 1
        else:
            kept.append(i)
            texts.add(text)
    return kept


def _with_own_id(review: Review) -> Review:
    """A review whose id other reviews have too (each file may count from 0); its text makes the id its own."""
    return review.model_copy(update={"id": f"{review.id}-{content_id(review.text)}"})


def _rows(
    parts: list[Part], progress: Callable[[str, int], None], phase: str
) -> Iterator[tuple[Part, int, RawRow | BadRow]]:
    """All rows with their numbers in their files, from 1."""
    count = 0
    for part in parts:
        row = 1
        for raw in part.rows():
            yield part, row, raw
            row += row_count(raw)
            count += 1
            if count % 1000 == 0:
                progress(phase, count)


def _gives_nothing(
    source: Source, parts: list[Part], losses: dict[str, Losses], domains: frozenset[str] | None, *, has_others: bool
) -> DataError:
    own = {part.name: part for part in parts if part.source == source}
    reasons = sum((losses[name].dropped for name in own), Counter[str]())
    probes = [part.probe for part in own.values()]
    expected = "at least one review that fits"
    found = shown_losses(reasons, probes)
    fix = (
        "set its columns, such as --columns text=COLUMN stars=COLUMN, or loosen the filters (for reviews without "
        "stars: --stars-ratio null)"
    )
    if source.domain and domains is not None and source.domain not in domains:
        expected = f"a domain of --domain-ratio ({', '.join(sorted(domains))})"
        found = f"the source has the domain {source.domain}"
        fix = f"write the same name at both places: {source.domain}=PATH and --domain-ratio {source.domain}=WEIGHT"
    elif reasons["no text"] and not any("text" in one.found for one in probes):
        expected = "a column with the text"
        found = f"no column is known as the text; the columns are {shown_columns(probes)}"
        fix = "write --columns text=NAME"
    if has_others:
        fix += ", or continue without this source: --allow-empty-sources"
    return DataError(source.location, expected=expected, found=found, fix=fix)


def _folder(output: Path) -> Path:
    output.parent.mkdir(parents=True, exist_ok=True)
    return output.parent


def _changed(name: str) -> DataError:
    return DataError(
        name,
        expected="the same rows in both passes",
        found="other rows in the second",
        fix="do not write to the file while it is sampled",
    )
