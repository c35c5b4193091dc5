"""Comparison of two models on one test set, where the training seeds and the sentences are both samples of more.

Everything here holds for other seeds and other sentences of the same kind. Tests of the given runs alone are in
``checkpoint_tests``.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import comb

import numpy as np
from scipy import stats

from fsa_jax.evaluation.tuple_counts import Tuples, exact_counts, f1_of_totals
from fsa_jax.evaluation.variance_components import Components, components

RESAMPLES = 10_000
_DRAWN_AT_ONCE = 1_000_000
"""Drawn sentences in memory at once."""


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
    resamples: int = RESAMPLES,
    confidence: float = 0.95,
    seed: int = 0,
) -> Difference:
    """Bootstraps the difference between two models, each trained several times, on the same sentences.

    F1 follows the released rule (``released_rule.tuple_f1``). See :func:`compare_counts`.

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
    counts = [np.stack([exact_counts(gold, run) for run in runs]) for runs in (first, second)]
    return compare_counts(counts[0], counts[1], resamples, confidence, seed).difference


@dataclass(frozen=True)
class Compared:
    """Two models, compared for other seeds and other sentences."""

    components: Components
    difference: Difference
    p: float | None
    """Two-sided p of the permutation test, at least 1 / (resamples + 1). None if a model has a single run, whose seed
    cannot be told from its recipe; the interval then holds for that run only."""


def compare_counts(
    first: np.ndarray, second: np.ndarray, resamples: int = RESAMPLES, confidence: float = 0.95, seed: int = 0
) -> Compared:
    """Compares two models by a permutation test and a bootstrap interval of the difference of their mean F1.

    **Test.** If the two models are the same recipe, their runs can be exchanged; and if one model gains on some
    sentences what it loses on others, the two can be exchanged on every sentence. So every resample deals the F1 of
    all runs out to the two models anew, and exchanges the models on random sentences. What the exchange of sentences
    adds is scaled to the variance by sentences alone, because the rest is already among the runs.

    With few runs there are few ways to deal them out (20 for three and three, which never gives p below 0.1). If there
    are fewer than resamples, the F1 of the runs are rotated at random instead of exchanged, which is as exact if they
    vary normally (rotation test; Langsrud 2005, Statistics and Computing 15).

    The statistic is the p-value of Welch's t with the variance of runs and sentences, computed again in every resample.
    So the test nearly holds its level also if the models differ in their variance (studentised permutation test;
    Janssen 1997, Statistics and Probability Letters 36; Chung and Romano 2013, Annals of Statistics 41).

    **Interval.** Every resample draws sentences with replacement (the same for all runs of both models), and runs of
    each model with replacement. This pigeonhole bootstrap (Owen 2007, Annals of Applied Statistics 1) has two known
    errors: with few runs it is too narrow, by the factor sqrt((n - 1) / n) and because a normal tail is too short; and
    it counts the variation that is particular to a run and a sentence about three times. So the distances of its
    percentiles from the difference are multiplied by one factor: the estimated standard error of the crossed design
    (``variance_components``) times the critical value of the test, divided by what both are for a normal bootstrap
    distribution. This is an expanded percentile interval (Hesterberg 2015, The American Statistician 69), calibrated
    by the permutations. It leaves out zero where the test rejects, but for the skewness of the bootstrap.

    Args:
      first: counts of the first model, shape (runs, sentences, 4), as in ``tuple_counts``.
      second: those of the second model, of the same sentences.
      resamples: number of resamples of the bootstrap, and of the permutation test.
      confidence: probability mass of the interval.
      seed: random seed of both.

    Raises:
      ValueError: there is no sentence or no run, or the models have different numbers of sentences.
    """
    if not first.size or not second.size:
        raise ValueError("a comparison needs at least one sentence and one run of each model")
    if first.shape[1:] != second.shape[1:]:
        raise ValueError(f"runs of {first.shape[1]} and {second.shape[1]} sentences cannot be compared")
    estimated = components(first, second)
    # The order of the models must not matter, so that the draws are those of one order.
    if (first.shape, first.tobytes()) > (second.shape, second.tobytes()):
        found = compare_counts(second, first, resamples, confidence, seed)
        turned = Difference(-found.difference.mean, -found.difference.high, -found.difference.low, confidence)
        return Compared(estimated, turned, found.p)
    rng = np.random.default_rng(seed)
    p, critical = None, float(stats.t.isf((1 - confidence) / 2, estimated.freedom))
    if estimated.covers_seeds:
        drawn = _permuted(first, second, estimated, resamples, rng)
        observed = _welch(
            np.array([estimated.difference]), [(np.array([part]), free) for part, free in estimated.parts]
        )
        p = share_as_extreme(-drawn, -observed[0])
        rejected = np.quantile(drawn, 1 - confidence, method="lower")
        critical = float(stats.t.isf(np.exp(rejected) / 2, estimated.freedom))
    drawn = _resampled(first, second, resamples, rng) - estimated.difference
    return Compared(estimated, _expanded(estimated, drawn, critical, confidence), p)


def _expanded(estimated: Components, drawn: np.ndarray, critical: float, confidence: float) -> Difference:
    """The interval from the deviations of the bootstrap."""
    tail = (1 - confidence) / 2
    spread, expansion = float(drawn.std()), 0.0
    if spread > 0:
        expansion = critical / float(stats.norm.isf(tail)) * estimated.variance**0.5 / spread
    low, high = expansion * np.quantile(drawn, [tail, 1 - tail])
    mean = estimated.difference
    return Difference(
        mean, max(-1.0, min(mean + float(low), mean)), min(1.0, max(mean + float(high), mean)), confidence
    )


def _permuted(
    first: np.ndarray, second: np.ndarray, estimated: Components, resamples: int, rng: np.random.Generator
) -> np.ndarray:
    """Logarithms of Welch's p after random exchanges of runs and sentences, shape (resamples,)."""
    dealt = _dealt(estimated, resamples, rng)
    differences = dealt[:, len(first) :].mean(axis=1) - dealt[:, : len(first)].mean(axis=1)
    if estimated.of_sentences > 0:
        scale = (estimated.of_sentences / estimated.of_sentences_and_rest) ** 0.5
        differences += scale * sentence_exchanges(first, second, resamples, rng)
    parts = [
        (np.maximum(part.var(axis=1, ddof=1), model.rest) / model.runs, model.runs - 1.0)
        for part, model in zip(np.split(dealt, [len(first)], axis=1), estimated.models, strict=True)
    ]
    parts.append((np.full(resamples, estimated.of_sentences), max(estimated.sentences - 1.0, 1.0)))
    return _welch(differences, parts)


def sentence_exchanges(first: np.ndarray, second: np.ndarray, resamples: int, rng: np.random.Generator) -> np.ndarray:
    """Differences of F1 after the two models were exchanged on random sentences, shape (resamples,).

    F1 is that of the mean counts of a model's runs, so that the models may have different numbers of runs.
    """
    means = np.stack([first.mean(axis=0), second.mean(axis=0)])
    total, change = means.sum(axis=1), means[1] - means[0]
    result = []
    for rows in _portions(resamples, first.shape[1]):
        exchanged = rng.integers(0, 2, size=(rows, first.shape[1]), dtype=np.int8).astype(np.float32) @ change
        # What the first model gains by the exchange, the second loses.
        result.append(f1_of_totals(total[1] - exchanged) - f1_of_totals(total[0] + exchanged))
    return np.concatenate(result)


def share_as_extreme(drawn: np.ndarray, observed: float) -> float:
    """The share of drawn values that are at least as large as the observed one, which is counted as one of them.

    Values that differ only by rounding are equal, as in scipy.stats.permutation_test.
    """
    tolerance = abs(observed) * 1e-9 + 1e-12 if np.isfinite(observed) else 0.0
    return (1 + int((drawn >= observed - tolerance).sum())) / (1 + len(drawn))


def _resampled(first: np.ndarray, second: np.ndarray, resamples: int, rng: np.random.Generator) -> np.ndarray:
    """Differences of the mean F1 of drawn runs on drawn sentences, shape (resamples,)."""
    sentences = first.shape[1]
    # Half the memory of float64, and exact: the totals are whole numbers far below 2^24.
    by_sentence = [np.moveaxis(arm, 1, 0).reshape(sentences, -1).astype(np.float32) for arm in (first, second)]
    result = []
    for rows in _portions(resamples, sentences):
        # Counting how often each sentence is drawn makes resampling a matrix product.
        positions = rng.integers(sentences, size=(rows, sentences)) + sentences * np.arange(rows)[:, None]
        times = np.bincount(positions.ravel(), minlength=rows * sentences)
        times = times.reshape(rows, sentences).astype(np.float32)
        means = []
        for arm in by_sentence:
            by_run = f1_of_totals((times @ arm).reshape(rows, -1, 4).astype(float))
            runs = rng.integers(by_run.shape[1], size=by_run.shape)
            means.append(np.take_along_axis(by_run, runs, axis=1).mean(axis=1))
        result.append(means[1] - means[0])
    return np.concatenate(result)


def _dealt(estimated: Components, resamples: int, rng: np.random.Generator) -> np.ndarray:
    """F1 of all runs, without its mean, dealt out at random or rotated, shape (resamples, runs of both models)."""
    f1 = np.concatenate([model.f1 for model in estimated.models])
    f1 = f1 - f1.mean()
    if comb(len(f1), estimated.models[0].runs) > resamples:
        return rng.permuted(np.tile(f1, (resamples, 1)), axis=1)
    direction = rng.standard_normal((resamples, len(f1)))
    direction -= direction.mean(axis=1, keepdims=True)
    return direction * (np.linalg.norm(f1) / np.linalg.norm(direction, axis=1, keepdims=True))


def _welch(differences: np.ndarray, parts: Sequence[tuple[np.ndarray, float]]) -> np.ndarray:
    """Two-sided p-values of Welch's t, on a logarithmic scale, from differences and the parts of their variances."""
    variance = np.sum([part for part, _ in parts], axis=0)
    squares = np.sum([part**2 / free for part, free in parts], axis=0)
    safe = np.where(variance > 0, variance, 1.0)
    freedom = np.where(variance > 0, safe**2 / np.where(squares > 0, squares, 1.0), parts[0][1])
    logarithms = np.log(2) + stats.t.logsf(np.abs(differences) / np.sqrt(safe), freedom)
    # Without any variance, a difference is certain, and none is none.
    return np.where(variance > 0, logarithms, np.where(differences == 0, 0.0, -np.inf))


def _portions(resamples: int, sentences: int) -> Iterator[int]:
    most = max(1, _DRAWN_AT_ONCE // sentences)
    for start in range(0, resamples, most):
        yield min(most, resamples - start)
