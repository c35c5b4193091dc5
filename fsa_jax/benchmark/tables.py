"""The table of a benchmark, computed from the stored predictions alone."""

from __future__ import annotations

import statistics
from collections.abc import Collection, Sequence
from pathlib import Path

from rich.table import Table

from fsa_jax.common.records import Record
from fsa_jax.evaluation.prediction_runs import RUN_FILE, ScoredRun, read_run, read_scored_run, scored_folders
from fsa_jax.evaluation.released_rule import tuple_f1
from fsa_jax.evaluation.subsets import SUBSETS


class Score(Record):
    """F1 of a student on a subset of a task's test sentences, in percent.

    Attributes:
      f1: F1 of each run, by the released rule.
      sentences: number of sentences.
    """

    f1: tuple[float, ...]
    sentences: int

    @property
    def mean(self) -> float:
        return statistics.mean(self.f1)

    @property
    def deviation(self) -> float | None:
        """Sample standard deviation over seeds; None for a single one."""
        return statistics.stdev(self.f1) if len(self.f1) > 1 else None

    def __str__(self) -> str:
        deviation = self.deviation
        return f"{self.mean:.1f}" + ("" if deviation is None else f" ± {deviation:.1f}")


class Line(Record):
    """One line of the table: a student on a share of one task's sentences.

    Attributes:
      student: name of the student.
      task: the dataset.
      share: share of the training sentences.
      learning_rate: the learning rate that was chosen; None if no run ended.
      seeds: seeds of the runs that ended.
      errors: why other runs have not ended, by seed.
      validation: best F1 on validation sentences of each run.
      scores: scores by subset; empty if the task has no test sentences here.
      without_overlap: the same for the sentences that no review of the corpus has; empty without a corpus.
    """

    student: str
    task: str
    share: float
    learning_rate: float | None
    seeds: tuple[int, ...]
    errors: dict[int, str]
    validation: tuple[float, ...]
    scores: dict[str, Score]
    without_overlap: dict[str, Score]


def score_runs(runs: Sequence[ScoredRun], left_out: Collection[str] = ()) -> dict[str, Score]:
    """Scores runs of one student on every subset that has sentences.

    Args:
      runs: the runs, on the same sentences.
      left_out: texts of sentences that do not count.
    """
    scores = {}
    for subset in SUBSETS:
        chosen = [[p for p in run.of_subset(subset) if p.text not in left_out] for run in runs]
        if chosen and chosen[0]:
            found = [tuple_f1([p.gold for p in own], [p.predicted for p in own]).f1 for own in chosen]
            scores[subset] = Score(f1=tuple(100 * f1 for f1 in found), sentences=len(chosen[0]))
    return scores


def shown(lines: Sequence[Line]) -> Table:
    """The table for the terminal; what is missing is said, never left blank."""
    several = len({line.share for line in lines}) > 1
    table = Table("task", "student", *(["share"] if several else []), "runs", "validation", *SUBSETS)
    for line in lines:
        errors = f", {len(line.errors)} FAILED" if line.errors else ""
        cells = [str(line.scores.get(subset, _missing(line, subset))) for subset in SUBSETS]
        validation = f"{statistics.mean(line.validation):.1f}" if line.validation else "no run"
        share = [f"{line.share:g}"] if several else []
        table.add_row(line.task, line.student, *share, f"{len(line.seeds)}{errors}", validation, *cells)
        if line.without_overlap:
            cells = [str(line.without_overlap.get(subset, "none left")) for subset in SUBSETS]
            table.add_row("", "  without overlaps", *([""] if several else []), "", "", *cells)
    return table


def _missing(line: Line, subset: str) -> str:
    if not line.seeds:
        return "no run"
    if not line.scores:
        return "no test data"
    return f"no {subset} sentences"


def recomputed(output: Path) -> dict[str, dict[str, float]]:
    """F1 of every stored run by subset, from nothing but its predictions; keys are folders relative to ``output``."""
    found = {}
    for folder in scored_folders(output):
        scores = score_runs([read_scored_run(folder)])
        found[str(folder.relative_to(output))] = {subset: score.mean for subset, score in scores.items()}
    return found


def ended(folder: Path) -> bool:
    """Whether the run of a folder ended without an error."""
    return (folder / RUN_FILE).is_file() and read_run(folder).error is None
