"""Tables of a zero-shot evaluation, computed from its stored predictions alone."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from fsa_base.errors import DataError
from fsa_jax.benchmark.zero_shot_students import UNTRAINED
from fsa_jax.evaluation.compare import Difference
from fsa_jax.evaluation.polarity_predictions import Decision, PolarityPrediction, answers, read_predictions
from fsa_jax.evaluation.polarity_scores import METRICS, bootstrap, polarity_scores
from fsa_jax.evaluation.subsets import SUBSETS

PRIOR = "its own prior"
PREDICTIONS = "predictions"

Runs = Mapping[tuple[str, str], Sequence[PolarityPrediction]]
"""Predictions by student and task, in the order of the tables."""


@dataclass(frozen=True)
class ScoreRow:
    """The scores of one student or teacher on one subset of one task, 0 to 1.

    Attributes:
      scores: intervals of the metrics, by the chosen decision.
      macro_f1: macro F1 by each decision; of a teacher, only of what it said.
      f1: F1 by polarity.
      mass: mean probability that the student writes one of the texts of the form ``analysis-aspect``, or of its first
        form; None for a teacher.
      unanswered: number of examples without a usable answer, which count as wrong.
    """

    student: str
    task: str
    subset: str
    examples: int
    sentences: int
    scores: Mapping[str, Difference]
    macro_f1: Mapping[str, float]
    f1: Mapping[str, float]
    mass: float | None
    unanswered: int


@dataclass(frozen=True)
class DifferenceRow:
    """How much better ``student`` is than ``other``, with intervals by metric."""

    student: str
    other: str
    task: str
    subset: str
    differences: Mapping[str, Difference]


@dataclass(frozen=True)
class Tables:
    """All numbers of an evaluation."""

    scores: tuple[ScoreRow, ...]
    differences: tuple[DifferenceRow, ...]

    def macro_f1(self, student: str, task: str, subset: str = "all") -> float:
        """The macro F1 by the chosen decision."""
        (row,) = (row for row in self.scores if (row.student, row.task, row.subset) == (student, task, subset))
        return row.scores["macro F1"].mean


def read_runs(folder: Path) -> dict[tuple[str, str], list[PolarityPrediction]]:
    """The predictions in an output folder of ``fsa zero-shot``, by student and task."""
    files = sorted((folder / PREDICTIONS).rglob("*.jsonl"))
    runs = [read_predictions(file) for file in files]
    return {(run[0].student, run[0].task): run for run in runs}


def tables(runs: Runs, decision: Decision = "calibrated") -> Tables:
    """The scores of all runs and the differences between them.

    Compared are, on the same sentences: each student and its own prior, which sees no sentence; each student and the
    untrained one of its size; and each two of the others.

    Args:
      runs: predictions by student and task.
      decision: how a student's answer is computed from its probabilities.
    """
    scores, differences = [], []
    for task in dict.fromkeys(task for _, task in runs):
        of_task = {student: runs[student, task] for student, other in runs if other == task}
        _require_same_examples(of_task, task)
        said = {student: answers(run, decision) for student, run in of_task.items()}
        priors = {student: answers(run, "prior") for student, run in of_task.items() if run[0].forms}
        for student, run in of_task.items():
            scores += [_score_row(run, said[student], subset) for subset in _subsets(run)]
        for student, other in _pairs(of_task):
            first = priors[student] if other == PRIOR else said[other]
            run = of_task[student]
            for subset in _subsets(run):
                rows = _rows(run, subset)
                found = bootstrap(
                    [_sentence(run[row]) for row in rows],
                    [run[row].gold for row in rows],
                    [said[student][row] for row in rows],
                    [first[row] for row in rows],
                )
                differences.append(DifferenceRow(student, other, task, subset, found))
    return Tables(tuple(scores), tuple(differences))


def _require_same_examples(of_task: Mapping[str, Sequence[PolarityPrediction]], task: str) -> None:
    asked = {
        student: [(_sentence(one), one.target, one.category, one.gold) for one in run]
        for student, run in of_task.items()
    }
    first = next(iter(asked))
    other = next((student for student in asked if asked[student] != asked[first]), None)
    if other is not None:
        raise DataError(
            f"{task}: predictions of {first} and {other}",
            expected="the same labels in the same order",
            found="others",
            fix="run fsa zero-shot with both students in one call",
        )


def _pairs(of_task: Mapping[str, Sequence[PolarityPrediction]]) -> Iterable[tuple[str, str]]:
    trained = [student for student in of_task if not student.endswith(UNTRAINED)]
    for student in trained:
        if of_task[student][0].forms:
            yield student, PRIOR
        if f"{student}{UNTRAINED}" in of_task:
            yield student, f"{student}{UNTRAINED}"
    yield from itertools.combinations(trained, 2)


def _score_row(run: Sequence[PolarityPrediction], said: Sequence[str | None], subset: str) -> ScoreRow:
    rows = _rows(run, subset)
    gold, chosen = [run[row].gold for row in rows], [said[row] for row in rows]
    by: dict[str, float] = {}
    for decision in ("calibrated", "batch", "uncalibrated", "prior") if run[0].forms else ():
        every = answers(run, decision)
        by[decision] = polarity_scores(gold, [every[row] for row in rows]).macro_f1
    forms = list(run[0].forms)
    mass = None
    if forms:
        form = "analysis-aspect" if "analysis-aspect" in forms else forms[0]
        mass = math.fsum(math.exp(run[row].forms[form].log_mass) for row in rows) / len(rows)
    sentences = [_sentence(run[row]) for row in rows]
    return ScoreRow(
        student=run[0].student,
        task=run[0].task,
        subset=subset,
        examples=len(rows),
        sentences=len(set(sentences)),
        scores=bootstrap(sentences, gold, chosen),
        macro_f1=by,
        f1=polarity_scores(gold, chosen).f1,
        mass=mass,
        unanswered=sum(one is None for one in chosen),
    )


def _subsets(run: Sequence[PolarityPrediction]) -> list[str]:
    """The subsets that have examples; ``original`` only beside ``hard``, as it is the same as ``all`` otherwise."""
    found = [subset for subset in SUBSETS if any(subset in one.subsets for one in run)]
    return [subset for subset in found if subset != "original" or "hard" in found]


def _rows(run: Sequence[PolarityPrediction], subset: str) -> list[int]:
    return [row for row, one in enumerate(run) if subset in one.subsets]


def _sentence(one: PolarityPrediction) -> str:
    """An ID may be in the original and in the hard test set."""
    return f"{one.id}\n{one.text}"


def score_lines(found: Tables) -> list[list[str]]:
    """The scores as rows of text, in percent, the column headings first."""
    lines = [["student", "task", "subset", "examples", *METRICS, "uncalibrated F1", "batch F1", "prior F1", "mass"]]
    for row in found.scores:
        by = [
            f"{100 * row.macro_f1[name]:.1f}" if name in row.macro_f1 else "-"
            for name in ("uncalibrated", "batch", "prior")
        ]
        mass = "-" if row.mass is None else f"{row.mass:.2g}"
        lines.append(
            [
                row.student,
                row.task,
                row.subset,
                str(row.examples),
                *(_interval(row.scores[name]) for name in METRICS),
                *by,
                mass,
            ]
        )
    return lines


def difference_lines(found: Tables) -> list[list[str]]:
    """The differences as rows of text, in points, the column headings first; * marks intervals without zero."""
    lines = [["student", "against", "task", "subset", *METRICS]]
    for row in found.differences:
        cells = [
            f"{_interval(row.differences[name], '+')}{' *' if row.differences[name].is_significant else ''}"
            for name in METRICS
        ]
        lines.append([row.student, row.other, row.task, row.subset, *cells])
    return lines


def domain_lines(found: Tables) -> list[list[str]]:
    """Macro F1 on all sentences: students by tasks, so that domains can be compared. Empty for a single task."""
    tasks = list(dict.fromkeys(row.task for row in found.scores))
    if len(tasks) < 2:
        return []
    lines = [["macro F1 (all)", *tasks]]
    for student in dict.fromkeys(row.student for row in found.scores):
        lines.append([student, *(f"{100 * found.macro_f1(student, task):.1f}" for task in tasks)])
    return lines


def _interval(value: Difference, sign: str = "") -> str:
    return f"{100 * value.mean:{sign}.1f} [{100 * value.low:{sign}.1f}, {100 * value.high:{sign}.1f}]"
