"""``fsa check``: decides which generations are good enough for training."""

from __future__ import annotations

from pathlib import Path

from fsa_base.errors import SettingError


def command(
    source: Path,
    output: Path,
    reviews: Path | None = None,
    grounding: float = 0.5,
    max_hallucination: float = 0.5,
    max_stars_gap: float = 0.75,
    max_partner_gap: float = 0.75,
    repair_analyses: bool = True,
    workers: int | None = None,
    overwrite: bool = False,
) -> None:
    """Checks teacher text: parses analyses, looks up their facts in the reviews, removes junk, keeps or drops each row.

    Writes OUTPUT/kept and OUTPUT/dropped (Parquet parts with scores and reasons), OUTPUT/check.json (counts),
    OUTPUT/check.html (plots and the worst examples) and checksums. OUTPUT appears only when it is complete; after a
    kill the same command starts again from the beginning.

    Args:
      source: store of fsa teach, or a file or folder in the papers' released layout (ID Text Overall …_response).
      output: output folder.
      reviews: Parquet file with the reviews of the store's generations, with the same texts as in fsa teach.
      grounding: share of an opinion target's words that must occur in its review, 0 to 1.
      max_hallucination: largest allowed share of opinions without a grounded target, or of sentences with an invented
        fact.
      max_stars_gap: largest allowed gap between a text's sentiment and its review's stars, 0 to 1.
      max_partner_gap: largest allowed gap between the sentiments of an analysis and a rewriting of a review, 0 to 1.
      repair_analyses: whether to remove opinions whose target is not in the review from the kept analyses.
      workers: number of processes; one per core by default. The result does not depend on it.
      overwrite: whether to replace an earlier check, or the unfinished one of other inputs or settings.

    Example:
      fsa check generations checked --reviews reviews.parquet
      fsa check mixtral_8x7b_reviews.jsonl checked
    """
    import json
    import os
    import tempfile
    from collections import Counter
    from contextlib import closing

    from rich.table import Table

    from fsa_base import checksums
    from fsa_jax.checking.assess import CheckSettings
    from fsa_jax.checking.check_generations import ReviewIndex, check, from_store, released
    from fsa_jax.checking.checked_files import COUNTS, FOREIGN, PAGE
    from fsa_jax.checking.page import render
    from fsa_jax.common.atomic_directory import written_aside
    from fsa_jax.common.output_checksums import finish
    from fsa_jax.common.paths import shown
    from fsa_jax.common.terminal import console, row_progress
    from fsa_jax.reviews.parquet_files import read_reviews
    from fsa_jax.teacher.store.reader import StoreReader

    is_store = source.is_dir() and any(source.glob("shard-*-of-*"))
    if is_store and reviews is None:
        raise SettingError(
            "--reviews", expected="the reviews of this store", found="none", fix="give the Parquet file of fsa sample"
        )
    if workers is None:
        workers = len(os.sched_getaffinity(0))
    elif workers < 1:
        raise SettingError("--workers", expected="at least 1", found=str(workers), fix="omit it to use all cores")
    settings = CheckSettings(
        grounding=grounding,
        max_hallucination=max_hallucination,
        max_stars_gap=max_stars_gap,
        max_partner_gap=max_partner_gap,
        repair_analyses=repair_analyses,
    ).checked()
    skipped: Counter[str] = Counter()
    unused_reviews: Counter[str] = Counter()
    inputs = [source] if reviews is None else [source, reviews]
    noted = {**settings.model_dump(), "inputs": [os.path.realpath(path) for path in inputs]}
    with (
        written_aside(
            output, command="fsa check", settings=noted, foreign=FOREIGN, inputs=inputs, overwrite=overwrite
        ) as folder,
        row_progress() as progress,
    ):
        if is_store and reviews is not None:
            with (
                tempfile.TemporaryDirectory(dir=folder) as scratch,
                closing(ReviewIndex(Path(scratch) / "reviews.sqlite", read_reviews(reviews), unused_reviews)) as index,
            ):
                pairs = from_store(StoreReader(source), index, skipped)
                statistics = check(pairs, settings, folder, progress, workers)
        else:
            statistics = check(released(source, skipped), settings, folder, progress, workers)
        statistics.skipped, statistics.unused_reviews = skipped, unused_reviews
        counts = {
            "source": shown(source),
            "settings": settings.model_dump(),
            "checksums": checksums.LIST,
            **statistics.as_json(),
        }
        (folder / COUNTS).write_text(json.dumps(counts, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
        (folder / PAGE).write_text(render(statistics, settings, shown(source)), encoding="utf-8")
        finish(folder)
    terminal = console()
    table = Table("what", "rows", title=f"{statistics.rows:,} generations")
    for name, found in (
        ("", statistics.verdicts()),
        ("not read: ", skipped),
        ("review not used: ", unused_reviews),
        ("dropped: ", statistics.reasons()),
        ("repaired: ", statistics.repairs()),
    ):
        for reason, count in found.most_common():
            table.add_row(f"{name}{reason}", f"{count:,}")
    terminal.print(table)
    terminal.print(f"wrote {output}/kept, dropped, check.json and check.html", soft_wrap=True)
