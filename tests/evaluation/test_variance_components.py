"""The parts of the variance of a difference: against simulations with known parts, scipy and statsmodels."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy import stats
from statsmodels.stats.power import TTestIndPower

from benchmarks.compare_null import points_by_skill, runs, world
from fsa_jax.evaluation.variance_components import Components, ModelVariance, components

f1 = st.lists(st.floats(0, 1), min_size=2, max_size=8).map(np.array)


@given(f1, f1)
def test_without_sentences_it_is_the_test_of_welch(first, second):
    assume(first.var() > 1e-6 and second.var() > 1e-6)
    parts = Components((ModelVariance(first, 0.0), ModelVariance(second, 0.0)), 100, 0.0, 0.0)
    welch = stats.ttest_ind(second, first, equal_var=False)
    assert parts.difference / parts.variance**0.5 == pytest.approx(welch.statistic, abs=1e-9)
    assert parts.freedom == pytest.approx(welch.df)


@settings(max_examples=20)
@given(st.floats(0.3, 3), st.sampled_from([0.5, 0.8, 0.95]))
def test_the_runs_needed_are_those_of_statsmodels(effect, power):
    f1 = np.array([0.4, 0.5, 0.6])
    parts = Components((ModelVariance(f1, 0.0), ModelVariance(f1 + 0.1 * effect, 0.0)), 100, 0.0, 0.0)
    needed = parts.runs_needed(power)
    expected = TTestIndPower().solve_power(effect_size=effect, power=power, alpha=0.05)
    # The two approximate the distribution differently, so a number at the edge may be off by one.
    assert needed == pytest.approx(max(2, int(np.ceil(expected))), abs=1)


def test_the_parts_are_those_of_a_simulation():
    """The mean estimates over many trials are the parts that are measured on the same world in another way."""
    skills, points = points_by_skill()
    rng = np.random.default_rng(0)
    seeds, between, differences = [], [], []
    for _ in range(400):
        test_set = world(150, rng)
        arms = [runs(test_set, np.interp(rng.normal(64, 3, 4), points, skills), 1.0, rng) for _ in "ab"]
        parts = components(*arms)
        seeds.append(np.mean([parts.models[0].seeds, parts.models[1].seeds]))
        differences.append(parts.difference)
        between.append(parts.variance)
    # 3 points between seeds.
    assert np.mean(seeds) ** 0.5 == pytest.approx(0.03, rel=0.1)
    # The estimated variance of the difference is that of the differences over the trials.
    assert np.mean(between) == pytest.approx(np.var(differences), rel=0.2)


def test_sentences_are_needed_in_proportion_to_their_variance():
    f1 = np.array([0.49, 0.5, 0.51])
    models = (ModelVariance(f1, 1e-6), ModelVariance(f1 + 0.02, 1e-6))
    few, many = Components(models, 1000, 1e-5, 1e-5), Components(models, 1000, 4e-5, 4e-5)
    assert few.power(0.02, (100, 100), 4000) == pytest.approx(many.power(0.02, (100, 100), 16_000), abs=0.01)
    # With three seeds of 1 point, no number of sentences shows 2 points in four of five cases.
    assert few.sentences_needed() is None
    assert few.runs_needed() == 6
    assert few.power(0.02, (6, 6), 1000) >= 0.8 > few.power(0.02, (5, 5), 1000)


def test_nothing_shows_a_difference_of_zero():
    f1 = np.array([0.4, 0.5, 0.6])
    parts = Components((ModelVariance(f1, 0.0), ModelVariance(f1, 0.0)), 100, 1e-4, 1e-4)
    assert parts.runs_needed() is None
    assert parts.sentences_needed() is None


@pytest.mark.parametrize("difference", [0.5, 5.0, 1e6])
def test_huge_differences_have_full_power(difference):
    f1 = np.array([0.499, 0.5, 0.501])
    parts = Components((ModelVariance(f1, 0.0), ModelVariance(f1, 0.0)), 100, 0.0, 0.0)
    assert parts.power(difference, (3, 3), 100) == pytest.approx(1.0)


def test_one_run_has_the_variance_of_its_sentences_only():
    rng = np.random.default_rng(0)
    first, second = (runs(world(300, np.random.default_rng(1)), np.zeros(count), 0.0, rng) for count in (1, 3))
    parts = components(first, second)
    assert not parts.covers_seeds
    assert [part for part, _ in parts.parts][1:] == [parts.of_sentences_and_rest]
