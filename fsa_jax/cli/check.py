"""``fsa check``: decides which generations are good enough for training."""

from __future__ import annotations

from pathlib import Path


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
      reviews: the reviews of the store's generations: the file or folder that fsa teach has read.
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
    from rich.table import Table

    from fsa_jax.checking.assess import CheckSettings
    from fsa_jax.checking.run_check import check
    from fsa_jax.common.terminal import console, row_progress

    settings = CheckSettings(
        grounding=grounding,
        max_hallucination=max_hallucination,
        max_stars_gap=max_stars_gap,
        max_partner_gap=max_partner_gap,
        repair_analyses=repair_analyses,
    )
    with row_progress() as progress:
        statistics = check(source, output, reviews, settings, workers=workers, overwrite=overwrite, progress=progress)
    terminal = console()
    table = Table("what", "rows", title=f"{statistics.rows:,} generations")
    for name, found in (
        ("", statistics.verdicts()),
        ("not read: ", statistics.skipped),
        ("review not used: ", statistics.unused_reviews),
        ("dropped: ", statistics.reasons()),
        ("repaired: ", statistics.repairs()),
    ):
        for reason, count in found.most_common():
            table.add_row(f"{name}{reason}", f"{count:,}")
    terminal.print(table)
    terminal.print(f"wrote {output}/kept, dropped, check.json and check.html", soft_wrap=True)
    terminal.print(f"next: fsa corpus {output} data/corpus", soft_wrap=True, markup=False)
