"""Where the uncertainty of a difference between two models comes from: the seeds of the training, and the sentences.

A model was trained with several seeds, and all its runs and those of the other model are scored on the same sentences.
The difference of the two mean F1 then varies with the seeds (each model's own), with the sentences (by which one model
gains more than by others), and with the rest: a run is right on one sentence and wrong on another for no other reason.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from fsa_jax.evaluation.tuple_counts import f1_and_influence

MOST_SEEDS = 10_000
MOST_SENTENCES = 10_000_000


@dataclass(frozen=True)
class ModelVariance:
    """Mean and variances of the F1 of one model's runs, 0 to 1."""

    f1: np.ndarray
    """F1 of each run."""
    rest: float
    """Variance of a run's F1 by the rest alone: the part that falls with the number of sentences. 0 for one run."""

    @property
    def runs(self) -> int:
        return len(self.f1)

    @property
    def between_runs(self) -> float:
        """Variance of F1 between runs: seeds and rest. Never below the rest, of which it has a part; 0 for one run."""
        return max(float(np.var(self.f1, ddof=1)), self.rest) if self.runs > 1 else 0.0

    @property
    def seeds(self) -> float:
        """Variance of F1 by the seeds alone, which more sentences do not lower."""
        return self.between_runs - self.rest


@dataclass(frozen=True)
class Components:
    """The difference of two models' mean F1 (the second minus the first, -1 to 1), and the parts of its variance."""

    models: tuple[ModelVariance, ModelVariance]
    sentences: int
    of_sentences: float
    """Variance of the difference by the choice of sentences, without the rest."""
    of_sentences_and_rest: float
    """Variance of the difference by the choice of sentences if the runs are taken as given."""

    @property
    def difference(self) -> float:
        first, second = self.models
        return float(second.f1.mean() - first.f1.mean())

    @property
    def covers_seeds(self) -> bool:
        """Whether both models have several runs, without which nothing is known about their seeds."""
        return all(model.runs > 1 for model in self.models)

    @property
    def parts(self) -> tuple[tuple[float, float], ...]:
        """The variances whose sum is the variance of the difference, each with its degrees of freedom.

        If a model has one run only, the rest cannot be told apart from the sentences, and stays with them.
        """
        seeds = tuple((model.between_runs / model.runs, model.runs - 1.0) for model in self.models if model.runs > 1)
        sentences = self.of_sentences if self.covers_seeds else self.of_sentences_and_rest
        return (*seeds, (sentences, max(self.sentences - 1.0, 1.0)))

    @property
    def variance(self) -> float:
        """Variance of the difference: seeds, sentences and rest."""
        return sum(part for part, _ in self.parts)

    @property
    def freedom(self) -> float:
        """Degrees of freedom of the variance (Satterthwaite 1946), as in Welch's test."""
        return _freedom(self.parts)

    def power(self, difference: float, runs: tuple[int, int], sentences: int) -> float:
        """Probability that a test at the 5% level finds a true difference, with so many runs of the two models.

        Student's t with the variance that these numbers of runs and sentences would have (noncentral t; Cohen 1988).
        Needs several runs of both models.
        """
        scale = self.sentences / sentences
        parts = [
            ((model.seeds + model.rest * scale) / count, count - 1.0)
            for model, count in zip(self.models, runs, strict=True)
        ]
        parts.append((self.of_sentences * scale, max(sentences - 1.0, 1.0)))
        variance = sum(part for part, _ in parts)
        if variance <= 0:
            return 1.0 if difference else 0.0
        freedom, centre = _freedom(parts), abs(difference) / variance**0.5
        critical = stats.t.ppf(0.975, freedom)
        # Beyond this the noncentral distribution loses precision, and the power is 1 to many digits.
        return 1.0 if centre > critical + 30 else float(stats.nct.sf(critical, freedom, centre))

    def runs_needed(self, power: float = 0.8) -> int | None:
        """The runs of each model that show a difference of the measured size with this probability on these sentences.

        None if ``MOST_SEEDS`` are too few: the sentences limit what can be shown. Needs several runs of both models.
        """
        return _smallest(lambda runs: self.power(self.difference, (runs, runs), self.sentences) >= power, 2, MOST_SEEDS)

    def sentences_needed(self, power: float = 0.8) -> int | None:
        """The sentences that show a difference of the measured size with this probability, with as many runs as now.

        None if ``MOST_SENTENCES`` are too few: the seeds limit what can be shown. Needs several runs of both models.
        """
        runs = (self.models[0].runs, self.models[1].runs)
        return _smallest(lambda count: self.power(self.difference, runs, count) >= power, 2, MOST_SENTENCES)


def components(first: np.ndarray, second: np.ndarray) -> Components:
    """Estimates the parts of the variance from the counts of both models' runs on the same sentences.

    The analysis of variance of a crossed design (seeds by sentences within each model; Brennan 2001, Generalizability
    Theory, chapter 3) of the influence of each sentence on F1. The variance of F1 between the runs holds the seeds and
    the rest; the variance between sentences of the mean difference holds the sentences and the rest, so that the rest
    is subtracted once. Estimates below zero are zero.

    Args:
      first: counts of the first model, shape (runs, sentences, 4), as in ``tuple_counts``.
      second: those of the second model.
    """
    models, means, rest_of_difference = [], [], 0.0
    sentences = first.shape[1]
    for counts in (first, second):
        f1, influence = f1_and_influence(counts)
        mean = influence.mean(axis=0)
        rest = 0.0
        if len(f1) > 1 and sentences > 1:
            squares = float(((influence - mean) ** 2).sum())
            rest = sentences * squares / ((len(f1) - 1) * (sentences - 1))
        models.append(ModelVariance(f1, rest))
        means.append(mean)
        rest_of_difference += rest / len(f1)
    both = sentences * float(np.var(means[1] - means[0], ddof=1)) if sentences > 1 else 0.0
    return Components((models[0], models[1]), sentences, max(0.0, both - rest_of_difference), both)


def _freedom(parts: Sequence[tuple[float, float]]) -> float:
    # Divided by the largest, because squares of tiny variances would be zero.
    largest = max(part for part, _ in parts)
    if largest <= 0:
        return min(freedom for _, freedom in parts)
    shares = [(part / largest, freedom) for part, freedom in parts]
    return sum(share for share, _ in shares) ** 2 / sum(share**2 / freedom for share, freedom in shares)


def _smallest(enough: Callable[[int], bool], low: int, high: int) -> int | None:
    """The smallest number that is enough, if more is never worse; None if the highest is not enough."""
    if not enough(high):
        return None
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if enough(middle) else (middle + 1, high)
    return low
