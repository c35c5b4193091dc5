"""Tests of two models' given runs alone: other seeds might give another result, so that these tests decide nothing."""

from __future__ import annotations

import numpy as np
from statsmodels.stats.contingency_tables import mcnemar

from fsa_jax.common.records import Record
from fsa_jax.evaluation.compare import RESAMPLES, sentence_exchanges, share_as_extreme
from fsa_jax.evaluation.tuple_counts import f1_of_totals


class McNemar(Record):
    """McNemar's exact test of two runs: on how many sentences is only one of them right?

    A run is right on a sentence if it predicts all gold tuples and no others.
    """

    first_only: int
    """Sentences on which only the first run is right."""
    second_only: int
    p: float


def mcnemar_of_runs(first: np.ndarray, second: np.ndarray) -> McNemar:
    """McNemar's exact two-sided test (statsmodels).

    Args:
      first: counts of one run of the first model, shape (sentences, 4), as in ``tuple_counts``.
      second: those of the second model, of the same sentences.
    """
    one, other = _is_right(first), _is_right(second)
    first_only, second_only = int((one & ~other).sum()), int((other & ~one).sum())
    table = [[int((one & other).sum()), first_only], [second_only, int((~one & ~other).sum())]]
    return McNemar(first_only=first_only, second_only=second_only, p=float(mcnemar(table, exact=True).pvalue))


def sentence_permutation_p(first: np.ndarray, second: np.ndarray, resamples: int = RESAMPLES, seed: int = 0) -> float:
    """Tests whether the given runs of two models differ on other sentences: a paired permutation test, two-sided.

    Every resample exchanges the two models on random sentences, all runs together; the statistic is the difference of
    F1, of the mean counts of each model's runs (approximate randomisation; Yeh 2000, COLING).

    Args:
      first: counts of the first model, shape (runs, sentences, 4), as in ``tuple_counts``.
      second: those of the second model, of the same sentences.
      resamples: number of random permutations.
      seed: random seed of the permutations.
    """
    totals = [counts.mean(axis=0).sum(axis=0) for counts in (first, second)]
    observed = abs(float(f1_of_totals(totals[1]) - f1_of_totals(totals[0])))
    drawn = np.abs(sentence_exchanges(first, second, resamples, np.random.default_rng(seed)))
    return share_as_extreme(drawn, observed)


def _is_right(counts: np.ndarray) -> np.ndarray:
    return (counts[:, 0] == counts[:, 1]) & (counts[:, 2] == counts[:, 3])
