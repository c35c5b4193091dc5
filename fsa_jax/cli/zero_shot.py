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
    teacher: str | None = None,
    store: Path | None = None,
    endpoint: str | None = None,
    api_key_variable: str = "OPENAI_API_KEY",
    max_cost: float | None = None,
    price_input: float | None = None,
    price_output: float | None = None,
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
      teacher: model that is asked the same questions, by vLLM on this machine or at an endpoint.
      store: folder of the teacher's answers, which are asked and paid once; not one of teacher text to distil from.
      endpoint: base URL of an OpenAI-compatible server of the teacher; without it, vLLM runs here (docs/teacher.md).
      api_key_variable: environment variable with the key of the endpoint.
      max_cost: limit on the cost of the teacher; needs prices.
      price_input: price of a million input tokens of the teacher.
      price_output: price of a million output tokens of the teacher.
      overwrite: whether to replace an earlier output, or the unfinished one of other settings.

    Example:
      fsa zero-shot runs/reviews@newest --task rest14 rest16 --output zero_shot
    """
    from rich.table import Table

    from fsa_base.errors import SettingError
    from fsa_jax.benchmark.zero_shot_run import evaluate, load_task
    from fsa_jax.benchmark.zero_shot_students import NamedStudent, load_named
    from fsa_jax.benchmark.zero_shot_tables import difference_lines, domain_lines, score_lines
    from fsa_jax.benchmark.zero_shot_teacher import ZeroShotTeacher
    from fsa_jax.common.paths import data_dir
    from fsa_jax.common.terminal import console

    if not task:
        raise SettingError("--task", expected="a dataset", found="none", fix="--task rest14")
    if (teacher is None) != (store is None):
        given, missing = ("--teacher", "--store") if store is None else ("--store", "--teacher")
        raise SettingError(missing, expected=f"both {given} and {missing}", found="one of them", fix=f"add {missing}")
    tasks = [load_task(name, split, data or data_dir()) for name in task]
    for one in tasks:
        left_out = ", ".join(f"{count} {reason}" for reason, count in one.left_out.items()) or "none"
        _say(f"{one.name}: {len(one.examples)} labels; left out: {left_out}")
    loaded: list[NamedStudent | ZeroShotTeacher] = []
    for given in [students] if isinstance(students, str) else students:
        student = load_named(given, base=base, vocabulary=vocabulary, instruction=instruction, seed=seed)
        loaded += [student, student.untrained(seed)] if untrained and not student.scratch else [student]
    if teacher is not None and store is not None:
        options = {"endpoint": endpoint, "api_key_variable": api_key_variable, "max_cost": max_cost}
        options |= {"price_input": price_input, "price_output": price_output}
        loaded.append(ZeroShotTeacher(teacher, store, options, _say))
    found = evaluate(
        loaded,
        tasks,
        output,
        forms=forms,
        decision=decision,
        overwrite=overwrite,
        say=_say,
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


def _say(line: str) -> None:
    from fsa_jax.common.terminal import printable

    print(printable(line), file=sys.stderr, flush=True)
