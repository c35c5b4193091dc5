"""``fsa compare``: the differences between students, with intervals and tests."""

from __future__ import annotations

from pathlib import Path
from typing import Literal


def command(
    students: list[str] | str,
    subset: list[str] | None = None,
    scoring: list[Literal["exact", "tolerant"]] | None = None,
    resamples: int = 10_000,
    confidence: float = 0.95,
    seed: int = 0,
    markdown: Path | None = None,
    latex: Path | None = None,
    json: Path | None = None,
) -> None:
    """Compares students on stored predictions: differences of F1 with intervals and tests over seeds and sentences.

    Every two students are compared, the later minus the earlier, on every task and share of the training sentences.
    docs/comparing.md says what each number means. Runs that failed or are missing are listed below the tables.

    Args:
      students: outputs of fsa benchmark (each of their students is compared), OUT:STUDENT for one of them, or files of
        predictions (one run each). NAME= before one gives the student that name; files with the same name are runs of
        one student.
      subset: all, original, hard, implicit or multi, or several of them; by default all five.
      scoring: exact (the released rule), tolerant (terms need only overlap), or both; by default both.
      resamples: number of resamples of the bootstrap and of each permutation test.
      confidence: probability mass of the intervals.
      seed: random seed of the resampling.
      markdown: Markdown file to write the tables to.
      latex: LaTeX file to write the tables to.
      json: JSON file to write all numbers to.

    Example:
      fsa compare results --markdown comparison.md
      fsa compare results:scratch results:distilled --subset all hard --scoring exact
      fsa compare old=a/predictions.jsonl new=b/predictions.jsonl --json comparison.json
    """
    from tqdm import tqdm

    from fsa_base.errors import SettingError, require_choice, require_number
    from fsa_jax.common.terminal import console, printable
    from fsa_jax.evaluation import comparison_tables
    from fsa_jax.evaluation.contestants import find_contestants
    from fsa_jax.evaluation.student_comparison import compare_students
    from fsa_jax.evaluation.subsets import SUBSETS
    from fsa_jax.evaluation.tuple_counts import SCORINGS

    require_number("--resamples", resamples, 100, whole=True)
    require_number("--confidence", confidence, 0.5, 0.999)
    require_number("--seed", seed, 0, whole=True)
    for name in subset or ():
        require_choice("--subset", name, SUBSETS, "{setting} {choice}")
    for path in (markdown, latex, json):
        if path and not path.parent.is_dir():
            fix = f"mkdir -p {path.parent}"
            raise SettingError(path, expected="a file in an existing folder", found=f"no folder {path.parent}", fix=fix)
    with tqdm(unit=" comparisons", disable=None) as bar:

        def show(what: str) -> None:
            bar.update()
            bar.set_description(printable(what))

        report = compare_students(
            find_contestants([students] if isinstance(students, str) else students),
            list(dict.fromkeys(subset or SUBSETS)),
            list(dict.fromkeys(scoring or SCORINGS)),
            resamples,
            confidence,
            seed,
            show,
        )
    for table in comparison_tables.rich_tables(report):
        console().print(table)
    for note in comparison_tables.notes(report):
        console().print(printable(note))
    for path, text in (
        (markdown, comparison_tables.markdown),
        (latex, comparison_tables.latex),
        (json, lambda found: found.model_dump_json(indent=2) + "\n"),
    ):
        if path:
            path.write_text(text(report), encoding="utf-8")
            console().print(printable(f"written: {path}"))
