"""``fsa sample``: draws a stratified, deduplicated sample from review dumps."""

from __future__ import annotations

from pathlib import Path

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
    stars_scale: list[str] | str = "auto",
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
      output: Parquet file to write (.parquet or .pq); the report is written next to it with the suffix .report.json.
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
      stars_scale: scale of the stars, which is mapped to 1-5: 0-10, 1-10, 0-100 or another LOW-HIGH, thumbs, unchanged
        (numbers from 0 to 5); auto decides it for each file. NAME=SCALE is for the source with this domain, path or
        file name.
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
    import shlex

    from fsa_jax.common.terminal import console, row_progress
    from fsa_jax.reviews import sample_report as reports
    from fsa_jax.reviews.run_sample import sample_reviews

    with row_progress() as progress:
        result = sample_reviews(
            sources,
            output,
            size=size,
            stars_ratio=stars_ratio,
            domain_ratio=domain_ratio,
            implicit_share=implicit_share,
            implicit_threshold=implicit_threshold,
            catalog=catalog,
            categories=categories,
            columns=columns,
            stars_scale=stars_scale,
            stars_offset=stars_offset,
            min_characters=min_characters,
            max_characters=max_characters,
            language=language,
            min_language_score=min_language_score,
            near_duplicates=near_duplicates,
            shortfall=shortfall,
            allow_empty_sources=allow_empty_sources,
            overwrite=overwrite,
            seed=seed,
            progress=progress,
        )
    terminal = console()
    for table in reports.tables(result.report):
        terminal.print(table)
    for line in reports.star_mappings(result.report):
        terminal.print(line, soft_wrap=True)
    if result.size < size:
        terminal.print(f"{result.size:,} of {size:,} reviews: {reports.shortfall(result.report)}", soft_wrap=True)
    terminal.print(f"wrote {output} and {result.report_file}", soft_wrap=True)
    terminal.print(
        f"next, with a few reviews at first: fsa teach {shlex.quote(str(output))} STORE TEACHER --endpoint URL "
        "--preview 5 (docs/teacher.md)",
        soft_wrap=True,
    )
