"""Comparison of two models on one test set: a paired bootstrap of the difference of their micro F1."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

Tuples = Sequence[Sequence[tuple]]
"""The tuples of each sentence."""


@dataclass(frozen=True)
class Difference:
    """Mean F1 of the second model's runs minus that of the first model's, -1 to 1, with its confidence interval."""

    mean: float
    low: float
    high: float
    confidence: float

    @property
    def is_significant(self) -> bool:
        """Whether the interval does not contain zero."""
        return self.low > 0 or self.high < 0


def paired_bootstrap(
    gold: Tuples,
    first: Sequence[Tuples],
    second: Sequence[Tuples],
    resamples: int = 10_000,
    confidence: float = 0.95,
    seed: int = 0,
) -> Difference:
    """Bootstraps the difference between two models, each trained several times, on the same sentences.

    Every resample draws test sentences with replacement (the same for all runs of both models), and runs of each model
    with replacement. So the interval includes the variation from the choice of sentences and from the training seeds.
    F1 follows the released rule (``released_rule.tuple_f1``), pooled over the resampled sentences and averaged over
    runs. The interval is a percentile interval (Efron and Tibshirani 1993, chapter 13).

    Args:
      gold: gold tuples of each sentence.
      first: predicted tuples of each sentence, for each run of the first model.
      second: predicted tuples of each sentence, for each run of the second model.
      resamples: number of bootstrap resamples.
      confidence: probability mass of the interval.
      seed: random seed of the resampling.

    Raises:
      ValueError: there is no sentence or no run, or the runs have different numbers of sentences.
    """
    if not gold or not first or not second:
        raise ValueError("a comparison needs at least one sentence and one run of each model")
    rng = np.random.default_rng(seed)
    counts = [np.stack([_counts(gold, run) for run in runs]) for runs in (first, second)]
    observed = [_f1(arm.sum(axis=1)).mean() for arm in counts]
    # Counting how often each sentence is drawn makes resampling a matrix product.
    drawn = rng.multinomial(len(gold), np.full(len(gold), 1 / len(gold)), size=resamples)
    means = []
    for arm in counts:
        by_run = _f1(np.einsum("bs,rsc->brc", drawn, arm, optimize=True))
        runs = rng.integers(len(arm), size=by_run.shape)
        means.append(np.take_along_axis(by_run, runs, axis=1).mean(axis=1))
    tail = (1 - confidence) / 2
    low, high = np.quantile(means[1] - means[0], [tail, 1 - tail])
    return Difference(float(observed[1] - observed[0]), float(low), float(high), confidence)


def _counts(gold: Tuples, predicted: Tuples) -> np.ndarray:
    """Counts of shape (sentences, 4): correct predicted tuples, predicted tuples, found gold tuples, gold tuples."""
    rows = [
        (sum(pair in right for pair in guess), len(guess), sum(pair in guess for pair in right), len(right))
        for right, guess in zip(gold, predicted, strict=True)
    ]
    return np.array(rows, dtype=np.int64)


def _f1(totals: np.ndarray) -> np.ndarray:
    """Micro F1 from totals of shape (…, 4); precision without predictions, or recall without gold tuples, is 1."""
    right, predicted, found, gold = np.moveaxis(totals.astype(float), -1, 0)
    precision = np.where(predicted > 0, right / np.maximum(predicted, 1), 1.0)
    recall = np.where(gold > 0, found / np.maximum(gold, 1), 1.0)
    total = precision + recall
    return np.where(total > 0, 2 * precision * recall / np.where(total > 0, total, 1.0), 0.0)
