"""Tests of the given runs alone: agreement with scipy and statsmodels, and their level without seed noise."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from benchmarks.compare_null import Setting, points_by_skill, rejections, runs, world
from fsa_jax.evaluation.checkpoint_tests import mcnemar_of_runs, sentence_permutation_p
from fsa_jax.evaluation.tuple_counts import exact_counts, f1_of_totals


def simulated(skill: float, sentences: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    test_set = world(sentences, rng)
    return runs(test_set, np.zeros(1), 0.0, rng), runs(test_set, np.array([skill]), 0.0, rng)


@settings(max_examples=5, deadline=None)
@given(st.integers(0, 1000), st.floats(0, 0.5))
def test_the_permutation_of_sentences_is_that_of_scipy(seed, skill):
    first, second = simulated(skill, 100, seed)
    rows = np.concatenate([first[0], second[0]])

    def difference(one: np.ndarray, other: np.ndarray) -> float:
        # scipy exchanges numbers, here the rows of the two runs.
        totals = [rows[at.astype(int)].sum(axis=0) for at in (one, other)]
        return abs(float(f1_of_totals(totals[1]) - f1_of_totals(totals[0])))

    expected = stats.permutation_test(
        (np.arange(100), np.arange(100, 200)),
        difference,
        permutation_type="samples",
        alternative="greater",
        n_resamples=2000,
        vectorized=False,
        rng=1,
    )
    # Four standard errors of both.
    p = float(expected.pvalue)
    tolerance = 4 * (2 * p * (1 - p) / 2000) ** 0.5 + 0.002
    assert sentence_permutation_p(first, second, 2000) == pytest.approx(p, abs=tolerance)


@given(st.integers(0, 1000), st.floats(-1, 1))
def test_mcnemar_is_the_binomial_test_of_the_sentences_that_one_run_solves(seed, skill):
    first, second = (counts[0] for counts in simulated(skill, 80, seed))
    found = mcnemar_of_runs(first, second)
    right = [(counts[:, 0] == counts[:, 1]) & (counts[:, 2] == counts[:, 3]) for counts in (first, second)]
    assert (found.first_only, found.second_only) == ((right[0] > right[1]).sum(), (right[1] > right[0]).sum())
    discordant = found.first_only + found.second_only
    assert found.p == pytest.approx(stats.binomtest(found.first_only, discordant).pvalue if discordant else 1.0)


def test_a_run_is_right_on_a_sentence_if_it_has_all_tuples_and_no_others():
    gold = [[("a", "positive")], [("a", "positive")], [("a", "positive"), ("b", "positive")], []]
    first = [[("a", "positive")], [("a", "positive"), ("c", "positive")], [("a", "positive")], [("x", "neutral")]]
    second = [list(pairs) for pairs in gold]
    found = mcnemar_of_runs(exact_counts(gold, first), exact_counts(gold, second))
    assert (found.first_only, found.second_only, found.p) == (0, 3, 0.25)


def test_equal_runs_have_p_1():
    first, _ = simulated(0.0, 50, 1)
    assert sentence_permutation_p(first, first, 200) == 1
    assert mcnemar_of_runs(first[0], first[0]).p == 1


def test_the_level_holds_without_seed_noise():
    found = rejections(Setting(3, (0.0, 0.0)), points_by_skill(), 200, sentences=150, resamples=99)
    # At a level of 5%, one in a thousand of such simulations is above 10.5%.
    assert found[3:].max() <= 0.105
