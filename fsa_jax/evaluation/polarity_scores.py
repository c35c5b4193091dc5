"""Macro F1 and accuracy of polarities, and bootstrap intervals over sentences.

A sentence with several targets is drawn as a whole, because its answers depend on each other.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from fsa_jax.evaluation.compare import Difference
from fsa_jax.text.polarity_forms import SCORED_POLARITIES

METRICS = ("macro F1", "accuracy")

RESAMPLES = 10_000
_AT_ONCE = 1000
"""Resamples that are in memory together."""


@dataclass(frozen=True)
class PolarityScores:
    """Scores, 0 to 1."""

    macro_f1: float
    """Mean F1 of the polarities that occur in the gold labels."""
    accuracy: float
    f1: Mapping[str, float]
    """F1 of each polarity that occurs in the gold labels."""


def polarity_scores(gold: Sequence[str], predicted: Sequence[str | None]) -> PolarityScores:
    """Scores predicted polarities with scikit-learn; None, which is no answer, is always wrong.

    Raises:
      ValueError: there is no label.
    """
    from sklearn.metrics import accuracy_score, f1_score

    if not gold:
        raise ValueError("there is nothing to score")
    labels = _labels(gold)
    said = ["no answer" if polarity is None else polarity for polarity in predicted]
    with warnings.catch_warnings():
        # scikit-learn warns of labels that are only predicted.
        warnings.simplefilter("ignore")
        # scikit-learn's annotations allow only text here.
        each = f1_score(gold, said, labels=labels, average=None, zero_division=0.0)  # pyright: ignore[reportArgumentType]
        accuracy = accuracy_score(gold, said)
    by_label = dict(zip(labels, np.asarray(each, float).tolist(), strict=True))
    return PolarityScores(float(np.mean(each)), float(accuracy), by_label)


def _labels(gold: Sequence[str]) -> list[str]:
    return [polarity for polarity in SCORED_POLARITIES if polarity in gold]


def bootstrap(
    sentences: Sequence[str],
    gold: Sequence[str],
    second: Sequence[str | None],
    first: Sequence[str | None] | None = None,
    *,
    confidence: float = 0.95,
    seed: int = 0,
) -> dict[str, Difference]:
    """Bootstrap intervals over sentences of the scores of ``second``, or of its difference to ``first``.

    Both are scored on the same resampled sentences (paired). The intervals are percentile intervals (Efron and
    Tibshirani 1993, chapter 13) of 10,000 resamples.

    Args:
      sentences: the sentence of each answer.
      gold: the gold polarity of each answer.
      second: the predicted polarities.
      first: those that are compared with; None for the scores themselves.
      confidence: probability mass of the interval.
      seed: random seed of the resampling.

    Returns:
      The interval of each of ``METRICS``.
    """
    counts = [_confusions(sentences, gold, second)] + ([_confusions(sentences, gold, first)] if first else [])
    rng = np.random.default_rng(seed)
    total = counts[0].shape[0]
    observed = _difference([one.sum(axis=0)[None] for one in counts], gold)[0]
    drawn = []
    for begin in range(0, RESAMPLES, _AT_ONCE):
        size = min(_AT_ONCE, RESAMPLES - begin)
        times = rng.multinomial(total, np.full(total, 1 / total), size=size)
        drawn.append(_difference([np.tensordot(times.astype(float), one, axes=1) for one in counts], gold))
    tail = (1 - confidence) / 2
    low, high = np.quantile(np.concatenate(drawn), [tail, 1 - tail], axis=0)
    return {
        metric: Difference(float(observed[i]), float(low[i]), float(high[i]), confidence)
        for i, metric in enumerate(METRICS)
    }


def _confusions(sentences: Sequence[str], gold: Sequence[str], predicted: Sequence[str | None]) -> np.ndarray:
    """Counts (sentences, polarities, answers) of the answers to each polarity; the last answer is none.

    They are floats, because products of integer matrices are slow.
    """
    rows = {sentence: row for row, sentence in enumerate(dict.fromkeys(sentences))}
    counts = np.zeros((len(rows), len(SCORED_POLARITIES), len(SCORED_POLARITIES) + 1))
    places: dict[str | None, int] = {polarity: place for place, polarity in enumerate(SCORED_POLARITIES)}
    for sentence, right, said in zip(sentences, gold, predicted, strict=True):
        counts[rows[sentence], places[right], places.get(said, len(SCORED_POLARITIES))] += 1
    return counts


def _difference(counts: Sequence[np.ndarray], gold: Sequence[str]) -> np.ndarray:
    """The metrics (resamples, metrics) of counts (resamples, polarities, answers), or of the first minus the second."""
    used = [place for place, polarity in enumerate(SCORED_POLARITIES) if polarity in gold]
    values = []
    for one in counts:
        right = np.einsum("bpp->bp", one[:, :, : len(SCORED_POLARITIES)])
        sizes = one.sum(axis=2) + one[:, :, : len(SCORED_POLARITIES)].sum(axis=1)
        f1 = np.where(sizes > 0, 2 * right / np.maximum(sizes, 1), 0.0)[:, used].mean(axis=1)
        values.append(np.stack([f1, right.sum(axis=1) / np.maximum(one.sum(axis=(1, 2)), 1)], axis=1))
    return values[0] - values[1] if len(values) > 1 else values[0]
