"""``fsa sample``: draws a stratified, deduplicated sample from review dumps."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path

from fsa_base.disk import sync
from fsa_base.errors import SettingError
from fsa_jax.reviews.strata import PAPER_STARS_RATIO, Shortfall


def command(
    sources: list[str] | str,
    output: Path,
    size: int = 100_000,
    stars_ratio: dict[str, float] | None = PAPER_STARS_RATIO,
    domain_ratio: dict[str, float] | None = None,
    implicit_share: float | None = None,
    implicit_threshold: float = 0.5,
    catalog: list[Path] | None = None,
    categories: dict[str, list[str]] | None = None,
    columns: dict[str, str] | None = None,
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
) -> None:
    """Samples reviews by star rating, domain and implicitness; writes Parquet and a report of what was dropped.

    Args:
      sources: files or folders (.jsonl .json .csv .tsv .parquet, also .gz .zst) or tfds:NAME:SPLIT; DOMAIN=PATH sets
        the domain of all reviews of a file.
      output: Parquet file to write; the report is written next to it with the suffix .report.json.
      size: number of reviews.
      stars_ratio: weights by star rating; null for no stratification by rating.
      domain_ratio: weights by domain, such as restaurants=2 hotels=1; other domains are dropped. null for
        no stratification by domain.
      implicit_share: share of reviews with mostly implicit sentiment (an estimate, docs/sampling.md), 0 to 1.
      implicit_threshold: a review is implicit if at least this share of its sentences has no opinion word.
      catalog: Yelp business files or Amazon metadata files, for dumps whose reviews have only the id of an item.
      categories: category names by domain instead of the built-in ones; 're:' starts a regular expression.
      columns: column names by part (id text stars item category domain), if they are not found automatically; used for
        the files that have these columns.
      stars_offset: number added to the stars, for dumps that count from 0. If columns sets the column of the stars, it
        is used only for files with that column.
      min_characters: shorter reviews are dropped.
      max_characters: longer reviews are dropped.
      language: ISO 639-1 code of the reviews to keep; null keeps all.
      min_language_score: score that another language must reach for a review to be dropped, 0 to 1.
      near_duplicates: similarity from which two reviews are near duplicates, 0 to 1; null keeps near duplicates.
      shortfall: what to do if a stratum has too few reviews. shrink: reduce the sample and keep the ratio. fill: take
        all that there are. error: stop.
      allow_empty_sources: whether to continue if a source gives no review.
      overwrite: whether to replace an earlier sample, or an unfinished one of other sources or settings.
      seed: random seed; another seed draws another sample.

    Example:
      fsa sample yelp_review.json.gz reviews.parquet --size 100000
      fsa sample restaurants=yelp.json.gz hotels=hotels.csv reviews.parquet --domain-ratio restaurants=2 hotels=1
    """
    from dataclasses import asdict

    from fsa_jax.common.atomic_directory import written_aside
    from fsa_jax.common.terminal import console, row_progress
    from fsa_jax.reviews import sample_report as reports
    from fsa_jax.reviews.domains import DEFAULT_RULES, DomainRules, read_catalog
    from fsa_jax.reviews.filters import Filters
    from fsa_jax.reviews.parquet_files import is_review_file
    from fsa_jax.reviews.row_to_review import FIELDS, Fields
    from fsa_jax.reviews.sample import SampleSettings, sample
    from fsa_jax.reviews.source import ReviewReader, Source

    if unknown := set(columns or ()) - set(FIELDS):
        raise SettingError(
            "--columns",
            expected=f"keys among {', '.join(FIELDS)}",
            found=", ".join(sorted(unknown)),
            fix="rename them",
        )
    sources = [sources] if isinstance(sources, str) else sources
    rules = DomainRules(categories or DEFAULT_RULES)
    settings = SampleSettings(
        size=size,
        stars_ratio=stars_ratio,
        domain_ratio=domain_ratio,
        implicit_share=implicit_share,
        implicit_threshold=implicit_threshold,
        near_duplicates=near_duplicates,
        shortfall=shortfall,
        seed=seed,
    )
    filters = Filters(min_characters, max_characters, language, min_language_score)
    parsed = [Source.parse(text) for text in sources]
    inputs = [file for source in parsed for file in source.files()] + list(catalog or ())
    _refuse_output_among_inputs(output, [Path(source.location) for source in parsed])
    asked = {
        "sources": sources,
        **asdict(settings),
        "filters": asdict(filters),
        "columns": columns,
        "stars_offset": stars_offset,
        "categories": categories,
        "catalog": [str(path) for path in catalog or ()],
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
        row_progress() as progress,
    ):
        items: dict[str, str] = {}
        catalogs = {}
        for path in catalog or ():
            found, counts = read_catalog(path, rules)
            items |= found
            catalogs[str(path)] = dict(counts.most_common())
        domains = frozenset(domain_ratio) if domain_ratio is not None else None
        reader = ReviewReader(Fields(columns or {}, stars_offset), filters, rules, items, domains)
        report = sample(parsed, reader, settings, unfinished, progress, allow_empty_sources)
        content = {**reports.as_json(report, asked), "catalogs": catalogs}
        reports.write(unfinished_report, content)
        if overwrite and output.exists():
            # A kill between the two renames must not leave this report next to the old sample.
            sync(unfinished)  # may fail or take long, so it is done while the old sample still has its name
            output.rename(replaced)
    terminal = console()
    for table in reports.tables(content):
        terminal.print(table)
    if report.size < size:
        terminal.print(f"{report.size:,} of {size:,} reviews: {reports.shortfall(content)}", soft_wrap=True)
    terminal.print(f"wrote {output} and {report_file}", soft_wrap=True)


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
