"""The paired bootstrap: its centre, its interval and its pairing."""

from __future__ import annotations

import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fsa_jax.evaluation.compare import paired_bootstrap
from fsa_jax.evaluation.released_rule import tuple_f1

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
