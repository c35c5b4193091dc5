"""``fsa zero-shot``: classifies sentiment with students that were never fine-tuned."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Literal


def command(
    students: list[str] | str,
    task: list[str] | None = None,
    split: Literal["test", "original", "hard", "dev", "train"] = "test",
    output: Path | None = None,
    forms: list[Literal["analysis", "analysis-aspect", "rewriting"]] | None = None,
    decision: Literal["calibrated", "batch", "uncalibrated"] = "calibrated",
    data: Path | None = None,
    vocabulary: Path | None = None,
    base: Path | None = None,
    instruction: str = "",
    untrained: bool = True,
    seed: int = 0,
    overwrite: bool = False,
) -> None:
    """Asks distilled students which polarity each target or category has, and scores the answers.

    The texts that a student would write are scored, given the sentence and without it (docs/zero_shot.md). Labels with
    the polarity conflict are left out and counted. Each student is scored on each task.

    Args:
      students: students, each as WHERE or NAME=WHERE; WHERE is a checkpoint, MODEL_DIR@best or MODEL_DIR@newest of a
        distillation, an output directory of fsa import-hf, a Hugging Face directory, or a repository on the Hub.
        scratch:WHERE, or scratch:gin/models/NAME.gin, is an untrained student of that size.
      task: datasets, such as rest14, or files with labelled sentences (docs/data.md).
      split: sentences to score; test has the original and the hard ones.
      output: folder for all predictions and the tables; without it, they are only printed.
      forms: forms of the question whose probabilities are averaged; by default those that the student was taught.
      decision: probabilities that decide. calibrated: those with the sentence divided by those without it. batch:
        divided by their mean over the dataset. uncalibrated: as they are.
      data: folder with the labels, in the layout of docs/data.md; by default FSA_DATA_DIR, else data/.
      vocabulary: SentencePiece model of T5 students, if it is not next to the weights.
      base: for trained decoder-only students, the output directory of fsa import-hf from which training started.
      instruction: text before the review in the user's turn (decoder-only students).
      untrained: whether each student is compared with an untrained one of its size.
      seed: random seed of untrained students.
      overwrite: whether to replace an earlier output, or the unfinished one of other settings.

    Example:
      fsa zero-shot runs/reviews@newest --task rest14 rest16 --output zero_shot
    """
    from rich.table import Table

    from fsa_base.errors import SettingError
    from fsa_jax.benchmark.zero_shot_run import evaluate, load_task
    from fsa_jax.benchmark.zero_shot_students import load_named
    from fsa_jax.benchmark.zero_shot_tables import difference_lines, domain_lines, score_lines
    from fsa_jax.common.paths import data_dir
    from fsa_jax.common.terminal import console, printable

    if not task:
        raise SettingError("--task", expected="a dataset", found="none", fix="--task rest14")
    tasks = [load_task(name, split, data or data_dir()) for name in task]
    for one in tasks:
        left_out = ", ".join(f"{count} {reason}" for reason, count in one.left_out.items()) or "none"
        print(printable(f"{one.name}: {len(one.examples)} labels; left out: {left_out}"), file=sys.stderr, flush=True)
    loaded = []
    for given in [students] if isinstance(students, str) else students:
        student = load_named(given, base=base, vocabulary=vocabulary, instruction=instruction, seed=seed)
        loaded += [student, student.untrained(seed)] if untrained and not student.scratch else [student]
    found = evaluate(
        loaded,
        tasks,
        output,
        forms=forms,
        decision=decision,
        overwrite=overwrite,
        say=lambda line: print(printable(line), file=sys.stderr, flush=True),
    ).tables
    terminal = console()
    titles = (
        "scores in percent, with 95% intervals over sentences",
        "differences in points (* without zero)",
        "domains",
    )
    for title, lines in zip(titles, (score_lines, difference_lines, domain_lines), strict=True):
        heading, *rows = lines(found) or [[]]
        if rows:
            table = Table(*heading, title=title)
            for row in rows:
                table.add_row(*row)
            terminal.print(table)
    if output is not None:
        terminal.print(f"wrote {output}/predictions, results.json and zero_shot.md", soft_wrap=True)
