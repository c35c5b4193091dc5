"""The paired bootstrap and the permutation test: centre, interval, pairing, level, and agreement with scipy."""

from __future__ import annotations

import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from benchmarks.compare_null import Setting, points_by_skill, rejections, runs, world
from fsa_jax.evaluation.compare import compare_counts, paired_bootstrap
from fsa_jax.evaluation.released_rule import tuple_f1
from fsa_jax.evaluation.tuple_counts import f1_of_totals

pairs = st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from(["positive", "negative"])), max_size=3)


@settings(max_examples=60)
@given(st.data(), st.integers(1, 6), st.integers(1, 3), st.integers(1, 3))
def test_the_mean_is_the_difference_of_the_mean_scores(data, sentences, first_runs, second_runs):
    draw = lambda: data.draw(st.lists(pairs, min_size=sentences, max_size=sentences))  # noqa: E731
    gold = draw()
    first, second = [draw() for _ in range(first_runs)], [draw() for _ in range(second_runs)]
    found = paired_bootstrap(gold, first, second, resamples=50)
    means = [np.mean([tuple_f1(gold, run).f1 for run in runs]) for runs in (first, second)]
    assert found.mean == pytest.approx(means[1] - means[0])
    assert -1 <= found.low <= found.high <= 1


def noisy(gold, share: float, seed: int):
    rng = random.Random(seed)
    return [[(term, polarity if rng.random() > share else "wrong") for term, polarity in pairs] for pairs in gold]


GOLD = [[(f"t{n}", "positive"), (f"u{n}", "negative")] for n in range(200)]


def test_a_clear_difference_is_significant_and_its_interval_holds_the_mean():
    first = [noisy(GOLD, 0.5, seed) for seed in range(3)]
    second = [noisy(GOLD, 0.2, seed) for seed in range(10, 13)]
    found = paired_bootstrap(GOLD, first, second, resamples=2000)
    assert found.low < found.mean < found.high
    assert found.mean == pytest.approx(0.3, abs=0.05)
    assert found.is_significant
    backwards = paired_bootstrap(GOLD, second, first, resamples=2000)
    assert backwards.mean == pytest.approx(-found.mean)
    assert backwards.is_significant


def test_the_same_model_is_no_better_than_itself():
    runs = [noisy(GOLD, 0.3, seed) for seed in range(3)]
    found = paired_bootstrap(GOLD, runs, runs, resamples=2000)
    assert found.mean == 0
    assert not found.is_significant


def test_sentences_are_drawn_alike_for_both_models():
    """Two models with errors on the same sentences differ by a constant; unpaired resampling would widen the
    interval."""
    run = noisy(GOLD, 0.5, 0)
    found = paired_bootstrap(GOLD, [run], [run], resamples=500)
    assert (found.low, found.high) == (0, 0)


def test_the_interval_covers_the_seeds_too():
    runs = [noisy(GOLD, share, 1) for share in (0.1, 0.5)]
    one = paired_bootstrap(GOLD, [noisy(GOLD, 0.3, 2)], [noisy(GOLD, 0.3, 3)], resamples=2000)
    two = paired_bootstrap(GOLD, [noisy(GOLD, 0.3, 2)], runs, resamples=2000)
    assert two.high - two.low > 1.5 * (one.high - one.low)


def test_it_is_repeatable():
    first, second = [noisy(GOLD, 0.5, 0)], [noisy(GOLD, 0.4, 1)]
    assert paired_bootstrap(GOLD, first, second, seed=7) == paired_bootstrap(GOLD, first, second, seed=7)


@pytest.mark.parametrize("arguments", [([], [[]], [[]]), (GOLD, [], [GOLD]), (GOLD, [GOLD], [])])
def test_nothing_to_compare_is_refused(arguments):
    with pytest.raises(ValueError, match="at least one"):
        paired_bootstrap(*arguments)


def test_runs_of_another_length_are_refused():
    with pytest.raises(ValueError):
        paired_bootstrap(GOLD, [GOLD[:-1]], [GOLD])


def simulated(
    skills: tuple[list[float], list[float]], sentences: int = 300, own_ease: float = 0.0, seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """The counts of two students' runs of given skills (log-odds) on one test set."""
    rng = np.random.default_rng(seed)
    test_set = world(sentences, rng)
    first, second = (runs(test_set, np.array(arm, dtype=float), own_ease, rng) for arm in skills)
    return first, second


def f1_of(counts: np.ndarray) -> np.ndarray:
    return f1_of_totals(counts.sum(axis=-2))


drawn_counts = st.builds(
    lambda runs_of, sentences, seed, skill: simulated(
        ([0.0] * runs_of[0], [skill] * runs_of[1]), sentences, own_ease=0.5, seed=seed
    ),
    st.tuples(st.integers(1, 5), st.integers(1, 5)),
    st.integers(2, 30),
    st.integers(0, 1000),
    st.floats(-2, 2),
)


@settings(max_examples=40)
@given(drawn_counts, st.integers(0, 5))
def test_the_order_of_the_models_only_changes_the_sign(arms, seed):
    first, second = arms
    forward, backward = (compare_counts(*pair, 99, seed=seed) for pair in ((first, second), (second, first)))
    assert forward.p == backward.p
    assert forward.difference.mean == pytest.approx(-backward.difference.mean)
    assert forward.difference.low == pytest.approx(-backward.difference.high)
    assert forward.difference.high == pytest.approx(-backward.difference.low)
    assert forward.difference.low <= forward.difference.mean <= forward.difference.high
    assert forward.p is None or 0.01 <= forward.p <= 1


@settings(max_examples=20)
@given(drawn_counts)
def test_identical_runs_differ_by_nothing(arms):
    found = compare_counts(arms[0], arms[0], 99)
    assert found.difference.mean == 0
    assert found.p == (1.0 if len(arms[0]) > 1 else None)
    assert not found.difference.is_significant


def test_runs_without_any_variation_are_told_apart_or_equal():
    """A difference without any noise is as sure as the number of resamples allows; the interval is a point."""
    wrong, right = (np.tile(np.array([[[n, 2, n, 2]]]), (3, 50, 1)) for n in (1, 2))
    found = compare_counts(wrong, right, 199)
    assert (found.difference.low, found.difference.high) == (0.5, 0.5)
    assert found.p is not None
    assert found.p < 0.05
    assert compare_counts(right, right, 199).p == 1


def test_with_few_seeds_it_agrees_with_the_t_test_of_scipy():
    """Where seeds are the only cause, the rotation test is Student's t-test of the F1 of the runs."""
    arms = simulated(([-3, -1, 1], [-0.5, 2, 2.5]), sentences=2000)
    found = compare_counts(*arms, 20_000)
    assert found.components.of_sentences < 0.01 * found.components.variance
    assert all(model.rest < 0.01 * model.between_runs for model in found.components.models)
    expected = stats.ttest_ind(f1_of(arms[0]), f1_of(arms[1])).pvalue
    assert found.p == pytest.approx(expected, abs=0.015)


def test_with_many_seeds_it_agrees_with_the_permutation_test_of_scipy():
    rng = np.random.default_rng(3)
    arms = simulated((list(rng.normal(0, 0.3, 8)), list(rng.normal(0.3, 0.3, 8))), sentences=2000)
    found = compare_counts(*arms, 5000)
    assert found.components.of_sentences < 0.01 * found.components.variance
    rests = [model.rest for model in found.components.models]

    def welch(first: np.ndarray, second: np.ndarray, axis: int = -1) -> np.ndarray:
        variances = [np.maximum(arm.var(axis, ddof=1), r) / 8 for arm, r in zip((first, second), rests, strict=True)]
        total = variances[0] + variances[1]
        freedom = total**2 / ((variances[0] ** 2 + variances[1] ** 2) / 7)
        return stats.t.logsf(np.abs(first.mean(axis) - second.mean(axis)) / np.sqrt(total), freedom)

    expected = stats.permutation_test(
        (f1_of(arms[0]), f1_of(arms[1])), welch, n_resamples=5000, alternative="less", vectorized=True, rng=1
    )
    assert 0.02 < expected.pvalue < 0.98
    assert found.p == pytest.approx(expected.pvalue, abs=0.03)


def test_the_interval_of_single_runs_is_that_of_scipy():
    """Without seeds there is only the choice of sentences, for which scipy has the same bootstrap."""
    first, second = simulated(([0.0], [0.5]), sentences=500)

    def difference(at: np.ndarray) -> float:
        return float(f1_of(second[0][at]) - f1_of(first[0][at]))

    expected = stats.bootstrap(
        (np.arange(500),), difference, n_resamples=4000, method="percentile", vectorized=False, rng=1
    )
    found = compare_counts(first, second, 4000)
    assert found.p is None
    assert found.components.variance**0.5 == pytest.approx(expected.standard_error, rel=0.06)
    width = expected.confidence_interval.high - expected.confidence_interval.low
    assert found.difference.low == pytest.approx(expected.confidence_interval.low, abs=0.05 * width)
    assert found.difference.high == pytest.approx(expected.confidence_interval.high, abs=0.05 * width)


def test_students_that_differ_by_sentence_are_not_told_apart_by_the_seeds_alone():
    """With almost equal seeds, Welch's t finds a difference that other sentences would turn around."""
    rejected = []
    for seed in range(60):
        first, second = simulated(([0.0] * 4, [0.0] * 4), 60, own_ease=3.0, seed=seed)
        found = compare_counts(first, second, 199, seed=seed)
        assert found.p is not None
        welch = stats.ttest_ind(f1_of(first), f1_of(second), equal_var=False).pvalue
        rejected.append((found.p <= 0.05, found.difference.is_significant, welch <= 0.05))
    permutation, interval, welch = np.mean(rejected, axis=0)
    assert max(permutation, interval) <= 0.15
    assert welch > 0.3


@pytest.mark.parametrize(("seeds", "deviation"), [(3, 0.0), (3, 2.0), (10, 2.0)])
def test_the_level_holds_for_seeds_of_one_recipe(seeds, deviation):
    """The short version of benchmarks/compare_null.py, with less exact results: 160 trials instead of 2,000."""
    found = rejections(Setting(seeds, (deviation, deviation)), points_by_skill(), 160, sentences=120, resamples=99)
    permutation, interval, _, sentences, _ = found
    # At a level of 5%, one in a thousand of such simulations is above 11%.
    assert max(permutation, interval) <= 0.11
    if deviation:
        assert sentences > 0.12


def test_a_planted_difference_is_found():
    found = rejections(Setting(10, (1.0, 1.0), difference=4.0), points_by_skill(), 40, sentences=300, resamples=199)
    assert found[:2].min() >= 0.9


def test_more_resamples_than_fit_in_memory_at_once_are_drawn_in_portions(monkeypatch):
    arms = simulated(([0.0] * 3, [1.0] * 3), 100)
    whole = compare_counts(*arms, 2000)
    monkeypatch.setattr("fsa_jax.evaluation.compare._DRAWN_AT_ONCE", 7000)
    portions = compare_counts(*arms, 2000)
    assert portions.difference.low == pytest.approx(whole.difference.low, abs=0.01)
    assert portions.difference.high == pytest.approx(whole.difference.high, abs=0.01)


def test_models_of_other_sentences_are_refused():
    first, second = simulated(([0.0], [0.0]), 10)
    with pytest.raises(ValueError, match="10 and 9 sentences"):
        compare_counts(first, second[:, :9], 99)
