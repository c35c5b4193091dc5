"""The comparison of students over tasks, shares of the training sentences, subsets and rules of scoring."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats
from statsmodels.stats.multitest import multipletests

from fsa_jax.common.records import Record
from fsa_jax.evaluation.checkpoint_tests import McNemar, mcnemar_of_runs, sentence_permutation_p
from fsa_jax.evaluation.compare import RESAMPLES, Compared, compare_counts
from fsa_jax.evaluation.contestants import Cell, Contestant, FinalRun, Gap, aligned
from fsa_jax.evaluation.prediction_runs import SentencePrediction
from fsa_jax.evaluation.subsets import SUBSETS
from fsa_jax.evaluation.tuple_counts import SCORINGS, Scoring, exact_counts, tolerant_counts
from fsa_jax.evaluation.variance_components import Components

LEVEL = 0.05


class Side(Record):
    """One of two students; F1 in percent."""

    name: str
    seeds: tuple[int | None, ...]
    f1: tuple[float, ...]
    """F1 of each seed."""
    mean: float
    deviation: float | None
    """Sample standard deviation over seeds; None for one seed."""


class Deviations(Record):
    """Standard deviations of F1 by cause, in F1 points, at this number of sentences (``variance_components``)."""

    seeds_first: float
    """Between seeds of the first student, without the rest."""
    seeds_second: float
    sentences: float
    """Of the difference of the two students, by the choice of sentences, without the rest."""
    rest_first: float
    """Of one run of the first student: what is particular to a seed and a sentence."""
    rest_second: float


class GivenRuns(Record):
    """Tests that hold for the given runs only."""

    permutation_p: float
    mcnemar: tuple[McNemar, ...]
    """For each pair of runs, in the order of the seeds."""

    @property
    def mcnemar_p(self) -> float:
        """The median p-value of McNemar's test over the pairs of runs."""
        return float(np.median([test.p for test in self.mcnemar]))


class Comparison(Record):
    """Two students on one subset of a test set; F1 in percent."""

    task: str
    share: float
    subset: str
    scoring: Scoring
    sentences: int
    first: Side
    second: Side
    difference: float
    """Mean F1 of the second minus that of the first."""
    low: float
    """Lower end of the confidence interval of the difference."""
    high: float
    confidence: float
    p: float | None
    """Permutation test over seeds and sentences; None if a student has one seed only."""
    p_holm: float | None = None
    """The same, corrected for all tests of the report (Holm 1979). It decides."""
    effect_size: float | None
    """Difference in standard deviations between seeds, corrected for few seeds (Hedges' g); None without deviation."""
    superiority: float
    """Probability that a run of the second is better than one of the first, 0 to 1; equal runs count half
    (Vargha and Delaney 2000)."""
    seeds_needed: int | None
    """Seeds of each student with which a true difference of this size is found in 80% of cases; None if no number
    is enough on these sentences, or nothing is known about the seeds."""
    sentences_needed: int | None
    """The same for sentences, with the seeds that there are."""
    deviations: Deviations
    freedom: float
    """Degrees of freedom of the variance of the difference."""
    given_runs: GivenRuns

    @property
    def verdict(self) -> str:
        """What can be said of the second student: better, worse, not shown, or one seed."""
        if self.p_holm is None:
            return "one seed"
        if self.p_holm > LEVEL:
            return "not shown"
        return "better" if self.difference > 0 else "worse"


class Uncompared(Record):
    """Two students that could not be compared on a task."""

    first: str
    second: str
    task: str
    share: float
    why: str


class StudentComparison(Record):
    """All comparisons between students."""

    comparisons: tuple[Comparison, ...]
    uncompared: tuple[Uncompared, ...]
    """What is missing from the comparisons, though one of the students has runs."""
    gaps: tuple[Gap, ...]
    """Runs that failed, did not end, or are missing."""
    unpaired: tuple[str, ...]
    """Where the two students were trained with different seeds."""
    tests: int
    """Number of tests for which the p-values were corrected."""
    resamples: int
    seed: int


def compare_students(
    students: Sequence[Contestant],
    subsets: Sequence[str] = SUBSETS,
    scorings: Sequence[Scoring] = SCORINGS,
    resamples: int = RESAMPLES,
    confidence: float = 0.95,
    seed: int = 0,
    progress: Callable[[str], None] = lambda what: None,
) -> StudentComparison:
    """Compares every two students, the later minus the earlier, wherever both have final runs.

    Args:
      students: at least two students.
      subsets: names of subsets of the test sets; those without sentences are reported in ``uncompared``.
      scorings: rules of scoring.
      resamples: number of resamples of the bootstrap, and of each permutation test.
      confidence: probability mass of the intervals.
      seed: random seed.
      progress: is called before each comparison with its name.

    Raises:
      DataError: two students were scored on different sentences, or a file is damaged.
    """
    comparisons: list[Comparison] = []
    uncompared: list[Uncompared] = []
    unpaired: list[str] = []
    settings = _Settings(subsets, scorings, resamples, confidence, seed, progress)
    for first, second in itertools.combinations(students, 2):
        for cell in sorted(first.runs.keys() | second.runs.keys()):
            pair = _Pair(first, second, cell)
            lacking = [student.name for student in (first, second) if not student.runs.get(cell)]
            if lacking:
                uncompared.append(pair.uncompared(f"{lacking[0]} has no final run"))
                continue
            found, without_sentences = _compare(pair, settings)
            comparisons += found
            uncompared += without_sentences
            seeds = [" ".join("?" if run.seed is None else str(run.seed) for run in runs) for runs in pair.runs]
            if seeds[0] != seeds[1]:
                unpaired.append(f"{pair}: seeds {seeds[0]} and {seeds[1]}")
    return StudentComparison(
        comparisons=tuple(with_holm(comparisons)),
        uncompared=tuple(uncompared),
        gaps=tuple(gap for student in students for gap in student.gaps),
        unpaired=tuple(unpaired),
        tests=sum(comparison.p is not None for comparison in comparisons),
        resamples=resamples,
        seed=seed,
    )


def with_holm(comparisons: Sequence[Comparison]) -> list[Comparison]:
    """The comparisons with p-values that are corrected for the number of tests (Holm 1979, statsmodels)."""
    tested = [index for index, comparison in enumerate(comparisons) if comparison.p is not None]
    result = list(comparisons)
    if tested:
        corrected = np.asarray(multipletests([comparisons[index].p for index in tested], LEVEL, method="holm")[1])
        for index, p in zip(tested, corrected, strict=True):
            result[index] = comparisons[index].model_copy(update={"p_holm": float(p)})
    return result


def hedges_g(first: np.ndarray, second: np.ndarray) -> float | None:
    """The difference of two means in pooled standard deviations, corrected for small samples (Hedges 1981).

    None if there is no deviation or no way to estimate it.
    """
    freedom = len(first) + len(second) - 2
    if min(len(first), len(second)) < 2:
        return None
    squares = (len(first) - 1) * np.var(first, ddof=1) + (len(second) - 1) * np.var(second, ddof=1)
    if squares <= 0:
        return None
    return float((second.mean() - first.mean()) / np.sqrt(squares / freedom) * (1 - 3 / (4 * freedom - 1)))


def superiority(first: np.ndarray, second: np.ndarray) -> float:
    """The share of pairs of runs in which the second is better; equal ones count half (Mann and Whitney's U)."""
    return float(stats.mannwhitneyu(second, first).statistic / (len(first) * len(second)))


@dataclass(frozen=True)
class _Settings:
    subsets: Sequence[str]
    scorings: Sequence[Scoring]
    resamples: int
    confidence: float
    seed: int
    progress: Callable[[str], None]


@dataclass(frozen=True)
class _Pair:
    first: Contestant
    second: Contestant
    cell: Cell

    @property
    def runs(self) -> tuple[list[FinalRun], list[FinalRun]]:
        return self.first.runs[self.cell], self.second.runs[self.cell]

    def uncompared(self, why: str) -> Uncompared:
        return Uncompared(first=self.first.name, second=self.second.name, **self.cell._asdict(), why=why)

    def __str__(self) -> str:
        return f"{self.first.name} and {self.second.name}, {self.cell.task}, share {self.cell.share:g}"


def _compare(pair: _Pair, settings: _Settings) -> tuple[list[Comparison], list[Uncompared]]:
    predictions = aligned([*pair.runs[0], *pair.runs[1]])
    counts = {scoring: np.stack([_counts(run, scoring) for run in predictions]) for scoring in settings.scorings}
    comparisons, uncompared = [], []
    for subset in settings.subsets:
        chosen = [at for at, sentence in enumerate(predictions[0]) if subset in sentence.subsets]
        if not chosen:
            uncompared.append(pair.uncompared(f"no sentence is in the subset {subset}"))
            continue
        for scoring in settings.scorings:
            settings.progress(f"{pair}, {subset}, {scoring}")
            first, second = np.split(counts[scoring][:, chosen], [len(pair.runs[0])])
            found = compare_counts(first, second, settings.resamples, settings.confidence, settings.seed)
            models = found.components.models
            given_runs = GivenRuns(
                permutation_p=sentence_permutation_p(first, second, settings.resamples, settings.seed),
                mcnemar=tuple(mcnemar_of_runs(one, other) for one, other in zip(first, second, strict=False)),
            )
            comparisons.append(
                Comparison(
                    **pair.cell._asdict(),
                    subset=subset,
                    scoring=scoring,
                    sentences=len(chosen),
                    first=_side(pair.first.name, pair.runs[0], models[0].f1),
                    second=_side(pair.second.name, pair.runs[1], models[1].f1),
                    given_runs=given_runs,
                    **_statistics(found),
                )
            )
    return comparisons, uncompared


def _counts(run: Sequence[SentencePrediction], scoring: Scoring) -> np.ndarray:
    gold = [sentence.gold for sentence in run]
    predicted = [sentence.predicted for sentence in run]
    if scoring == "exact":
        return exact_counts(gold, predicted)
    return tolerant_counts([sentence.text for sentence in run], gold, predicted)


def _side(name: str, runs: Sequence[FinalRun], f1: np.ndarray) -> Side:
    percent = tuple(100 * float(value) for value in f1)
    deviation = float(np.std(percent, ddof=1)) if len(percent) > 1 else None
    return Side(
        name=name,
        seeds=tuple(run.seed for run in runs),
        f1=percent,
        mean=float(np.mean(percent)),
        deviation=deviation,
    )


def _statistics(found: Compared) -> dict:
    parts, difference = found.components, found.difference
    first, second = (model.f1 for model in parts.models)
    return {
        "difference": 100 * difference.mean,
        "low": 100 * difference.low,
        "high": 100 * difference.high,
        "confidence": difference.confidence,
        "p": found.p,
        "effect_size": hedges_g(first, second),
        "superiority": superiority(first, second),
        "seeds_needed": parts.runs_needed() if parts.covers_seeds else None,
        "sentences_needed": parts.sentences_needed() if parts.covers_seeds else None,
        "deviations": _deviations(parts),
        "freedom": parts.freedom,
    }


def _deviations(parts: Components) -> Deviations:
    first, second = parts.models
    variances = {
        "seeds_first": first.seeds,
        "seeds_second": second.seeds,
        "sentences": parts.of_sentences if parts.covers_seeds else parts.of_sentences_and_rest,
        "rest_first": first.rest,
        "rest_second": second.rest,
    }
    return Deviations(**{name: 100 * max(variance, 0.0) ** 0.5 for name, variance in variances.items()})
