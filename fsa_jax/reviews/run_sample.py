"""``fsa sample`` as a function: checks the settings, draws the sample, and gives both files their names together."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from fsa_base.disk import sync
from fsa_base.errors import SettingError, require_number
from fsa_jax.common.atomic_directory import written_aside
from fsa_jax.reviews import sample_report as reports
from fsa_jax.reviews.domains import DEFAULT_RULES, DomainRules, read_catalog
from fsa_jax.reviews.dump_rows import PARQUET_SUFFIXES
from fsa_jax.reviews.filters import Filters
from fsa_jax.reviews.parquet_files import is_review_file
from fsa_jax.reviews.row_to_review import FIELDS, Fields
from fsa_jax.reviews.sample import SampleSettings, sample
from fsa_jax.reviews.source import ReviewReader, Source, StarsScales
from fsa_jax.reviews.stars import AUTO
from fsa_jax.reviews.strata import PAPER_STARS_RATIO, Shortfall


@dataclass(frozen=True)
class SampleResult:
    """A finished sample.

    Attributes:
      output: Parquet file with the sampled reviews.
      report_file: JSON file with the report.
      report: content of that file: settings, counts by file and reason, mappings of stars, strata. It has no text of
        reviews.
    """

    output: Path
    report_file: Path
    report: dict[str, Any]

    @property
    def size(self) -> int:
        """Number of reviews in the sample; less than asked if strata have too few."""
        return self.report["size"]


def sample_reviews(
    sources: str | Path | Sequence[str | Path],
    output: str | Path,
    *,
    size: int = 100_000,
    stars_ratio: Mapping[str, float] | None = PAPER_STARS_RATIO,
    domain_ratio: Mapping[str, float] | None = None,
    implicit_share: float | None = None,
    implicit_threshold: float = 0.5,
    catalog: str | Path | Sequence[str | Path] | None = None,
    categories: Mapping[str, Sequence[str]] | None = None,
    columns: Mapping[str, str] | None = None,
    stars_scale: str | Sequence[str] = AUTO,
    stars_offset: float = 0.0,
    min_characters: int = 20,
    max_characters: int = 4000,
    language: str | None = "en",
    min_language_score: float = 0.4,
    near_duplicates: float | None = 0.8,
    shortfall: Shortfall = "shrink",
    allow_empty_sources: bool = False,
    overwrite: bool = False,
    seed: int = 0,
    progress: Callable[[str, int], None] = lambda phase, rows: None,
) -> SampleResult:
    """Samples reviews by star rating, domain and implicitness; writes Parquet and a report of what was dropped.

    This is ``fsa sample`` without its printing; docs/sampling.md describes the method. Memory depends on ``size`` and
    not on the size of the sources. The same arguments write the same two files.

    Args:
      sources: one or more files or folders (.jsonl .json .csv .tsv .parquet, also .gz .zst), or ``tfds:NAME:SPLIT``;
        ``DOMAIN=PATH`` sets the domain of all reviews of a source.
      output: Parquet file to write (.parquet or .pq); the report is written next to it with the suffix .report.json.
      size: number of reviews.
      stars_ratio: weights by star rating, such as ``{"1": 1, "5": 2}``; None for no stratification by rating.
      domain_ratio: weights by domain; other domains are dropped. None for no stratification by domain.
      implicit_share: share of reviews with mostly implicit sentiment, 0 to 1; None for no stratification by it.
      implicit_threshold: a review is implicit if at least this share of its sentences has no opinion word.
      catalog: Yelp business files or Amazon metadata files, for dumps whose reviews have only the id of an item.
      categories: category names by domain instead of the built-in ones; ``re:`` starts a regular expression.
      columns: column names by part (id text stars item category domain), if they are not found automatically.
      stars_scale: scale of the stars: ``LOW-HIGH`` such as ``0-10``, ``thumbs``, ``unchanged`` (numbers from 0 to 5) or
        ``auto``; ``NAME=SCALE`` for the source with this domain, path or file name.
      stars_offset: number added to the stars before they are mapped, for dumps that count from 0.
      min_characters: shorter reviews are dropped.
      max_characters: longer reviews are dropped.
      language: ISO 639-1 code of the reviews to keep; None keeps all.
      min_language_score: score that another language must reach for a review to be dropped, 0 to 1.
      near_duplicates: similarity from which two reviews are near duplicates, 0 to 1; None keeps near duplicates.
      shortfall: what to do if a stratum has too few reviews: ``shrink``, ``fill`` or ``error`` (strata.settle).
      allow_empty_sources: whether to continue if a source gives no review.
      overwrite: whether to replace an earlier sample, or an unfinished one of other sources or settings.
      seed: random seed; another seed draws another sample.
      progress: called every 1,000 rows with the phase (``scan`` or ``collect``) and the number of rows read so far.

    Returns:
      The paths of the two files, and the report.

    Raises:
      SettingError: an argument has an unusable value, or ``output`` cannot be written or replaced.
      MissingDataError: a source does not exist.
      DataError: a source has another format than its name says, or gives no review; the scale of its stars cannot be
        decided; or there are too few reviews (depends on ``shortfall``).
    """
    output = Path(output)
    if output.suffix.lower() not in PARQUET_SUFFIXES:
        raise SettingError(
            output,
            expected="an output whose name ends in .parquet or .pq, because fsa sample writes Parquet",
            found=repr(output.suffix) if output.suffix else "no suffix",
            fix=f"name it {output.with_suffix('.parquet').name}" if output.name else "name a file",
        )
    if unknown := set(columns or ()) - set(FIELDS):
        raise SettingError(
            "--columns",
            expected=f"keys among {', '.join(FIELDS)}",
            found=", ".join(sorted(unknown)),
            fix="rename them",
        )
    typed = [str(source) for source in _listed(sources)]
    if not typed:
        raise SettingError("SOURCES", expected="at least one source", found="none", fix="name a file or folder")
    catalogs = [Path(path) for path in _listed(catalog or ())]
    rules = DomainRules(categories or DEFAULT_RULES)
    StarsScales(stars_scale)
    settings = SampleSettings(
        size=size,
        stars_ratio=_weights(stars_ratio, "stars_ratio"),
        domain_ratio=_weights(domain_ratio, "domain_ratio"),
        implicit_share=implicit_share,
        implicit_threshold=implicit_threshold,
        near_duplicates=near_duplicates,
        shortfall=shortfall,
        seed=seed,
    )
    filters = Filters(min_characters, max_characters, language, min_language_score)
    parsed = [Source.parse(text) for text in typed]
    inputs = [file for source in parsed for file in source.files()] + catalogs
    _refuse_output_among_inputs(output, [Path(source.location) for source in parsed])
    asked = {
        "sources": typed,
        **asdict(settings),
        "filters": asdict(filters),
        "columns": None if columns is None else dict(columns),
        "stars_scale": stars_scale if isinstance(stars_scale, str) else list(stars_scale),
        "stars_offset": stars_offset,
        "categories": None if categories is None else {domain: list(names) for domain, names in categories.items()},
        "catalog": [str(path) for path in catalogs],
    }
    report_file = reports.report_path(output)
    left_by_same = not os.path.lexists(output) and (reports.read(report_file) or {}).get("settings") == asked

    def aside(path: Path, is_ours: Callable[[Path], bool], replace: bool) -> AbstractContextManager[Path]:
        return written_aside(
            path,
            command="fsa sample",
            settings=asked,
            foreign=lambda found: None if is_ours(found) else "something that fsa sample did not write",
            inputs=inputs,
            overwrite=overwrite or replace,
            directory=False,
        )

    replaced = output.with_name(f".{output.name}.old")
    with (
        _given_back(replaced, output, report_file) if overwrite else nullcontext(),
        aside(output, is_review_file, False) as unfinished,
        # The report gets its final name before the sample, so that every sample has its report.
        aside(report_file, lambda found: reports.read(found) is not None, left_by_same) as unfinished_report,
    ):
        items: dict[str, str] = {}
        catalog_counts = {}
        for path in catalogs:
            found, counts = read_catalog(path, rules)
            items |= found
            catalog_counts[str(path)] = dict(counts.most_common())
        domains = frozenset(domain_ratio) if domain_ratio is not None else None
        reader = ReviewReader(Fields(columns or {}, stars_offset), filters, rules, items, domains, stars_scale)
        report = sample(parsed, reader, settings, unfinished, progress, allow_empty_sources)
        content = {**reports.as_json(report, asked), "catalogs": catalog_counts}
        reports.write(unfinished_report, content)
        if overwrite and output.exists():
            # A kill between the two renames must not leave this report next to the old sample.
            sync(unfinished)  # may fail or take long, so it is done while the old sample still has its name
            output.rename(replaced)
    return SampleResult(output, report_file, content)


def _listed(value: str | Path | Sequence[str | Path]) -> list[str | Path]:
    return [value] if isinstance(value, str | Path) else list(value)


def _weights(ratio: Mapping[str, float] | None, setting: str) -> dict[str, float] | None:
    for weight in (ratio or {}).values():
        require_number(setting, weight, 0)
    # As the command line gives them, so that a function call and a command write the same report.
    return None if ratio is None else {str(name): float(weight) for name, weight in ratio.items()}


@contextmanager
def _given_back(replaced: Path, output: Path, report_file: Path) -> Iterator[None]:
    """Deletes the old sample at the end of a block. If the block ends without a new sample, restores the old one."""
    try:
        yield
    finally:
        if replaced.exists() and not output.exists():
            report_file.unlink(missing_ok=True)  # the report of the new sample
            replaced.rename(output)
        replaced.unlink(missing_ok=True)


def _refuse_output_among_inputs(output: Path, folders: list[Path]) -> None:
    for folder in folders:
        if folder.is_dir() and output.parent.is_dir() and folder.samefile(output.parent):
            raise SettingError(
                output,
                expected="an output outside the folders that are read",
                found=f"one in {folder}, which the next run would read",
                fix="choose another output",
            )
