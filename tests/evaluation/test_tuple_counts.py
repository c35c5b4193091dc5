"""Counts of right and found tuples, exact and with tolerance, and the influence of a sentence on F1."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fsa_jax.evaluation.released_rule import tuple_f1
from fsa_jax.evaluation.tuple_counts import exact_counts, f1_and_influence, f1_of_totals, tolerant_counts

TEXT = "the big red pizza and the red wine list, pizza"
terms = st.sampled_from(["pizza", "red pizza", "red", "wine", "wine list", "the", "NULL", "beer", "and the", ", "])
pairs = st.tuples(terms, st.sampled_from(["positive", "negative"]))
sentences = st.lists(
    st.tuples(st.lists(pairs, max_size=4, unique=True), st.lists(pairs, max_size=5)), min_size=1, max_size=4
)


@given(sentences)
def test_f1_of_exact_counts_is_that_of_the_released_rule(drawn):
    gold, predicted = ([pair[at] for pair in drawn] for at in (0, 1))
    found = float(f1_of_totals(exact_counts(gold, predicted).sum(axis=0)))
    assert found == pytest.approx(tuple_f1(gold, predicted).f1)


@given(sentences)
def test_tolerant_counts_are_never_lower_and_never_above_the_number_of_tuples(drawn):
    gold, predicted = ([pair[at] for pair in drawn] for at in (0, 1))
    exact = exact_counts(gold, predicted)
    tolerant = tolerant_counts([TEXT] * len(gold), gold, predicted)
    assert (tolerant >= exact).all()
    assert (tolerant[:, [1, 3]] == exact[:, [1, 3]]).all()
    assert (tolerant[:, 0] <= tolerant[:, 1]).all()
    assert (tolerant[:, 2] <= tolerant[:, 3]).all()


@given(st.lists(pairs, max_size=4, unique=True), st.lists(pairs, max_size=4, unique=True))
def test_matches_are_one_to_one_and_symmetric(one, other):
    forward, backward = tolerant_counts([TEXT], [one], [other])[0], tolerant_counts([TEXT], [other], [one])[0]
    assert forward[0] == forward[2]
    assert list(forward) == [backward[2], backward[3], backward[0], backward[1]]


@pytest.mark.parametrize(
    ("gold", "predicted", "right"),
    [
        ([("red pizza", "positive")], [("pizza", "positive")], 1),
        ([("red pizza", "positive")], [("pizza", "negative")], 0),
        ([("red wine", "positive")], [("wine list", "positive")], 1),
        # Both contain "the", but at different places.
        ([("big red pizza", "positive")], [("wine list", "positive")], 0),
        # They share a comma and a blank only.
        ([("list, ", "positive")], [(", pizza", "positive")], 0),
        # "pizza" is there twice; one of the places is enough.
        ([("pizza", "positive")], [("list, pizza", "positive")], 1),
        ([("NULL", "positive")], [("pizza", "positive")], 0),
        ([("NULL", "positive")], [("NULL", "positive")], 1),
        # Two predictions for one gold tuple, and one prediction for two.
        ([("wine list", "positive")], [("wine", "positive"), ("list", "positive")], 1),
        ([("red pizza", "positive"), ("red wine", "positive")], [("red", "positive")], 1),
        # The best assignment is found, not the first.
        (
            [("red wine list", "positive"), ("wine", "positive")],
            [("red wine", "positive"), ("list", "positive")],
            2,
        ),
        # Longer tuples: the category must be equal, the opinion words may overlap.
        ([("pizza", "food", "big red", "positive")], [("red pizza", "food", "red", "positive")], 1),
        ([("pizza", "food", "big", "positive")], [("pizza", "drinks", "big", "positive")], 0),
        ([("pizza", "food", "positive")], [("pizza", "positive")], 0),
    ],
)
def test_terms_need_only_overlap(gold, predicted, right):
    assert tolerant_counts([TEXT], [gold], [predicted]).tolist() == [[right, len(predicted), right, len(gold)]]


def test_duplicates_count_as_their_tuple_does():
    gold, predicted = [[("red pizza", "positive")]], [[("pizza", "positive")] * 2]
    assert tolerant_counts([TEXT], gold, predicted).tolist() == [[2, 2, 1, 1]]


def test_other_numbers_of_sentences_are_refused():
    with pytest.raises(ValueError):
        tolerant_counts([TEXT], [[], []], [[], []])
    with pytest.raises(ValueError):
        exact_counts([[]], [])


@given(st.integers(0, 2**32 - 1), st.integers(2, 6))
def test_influence_is_the_derivative_of_f1_by_the_weight_of_a_sentence(seed, sentences):
    rng = np.random.default_rng(seed)
    gold = rng.integers(0, 4, sentences) + 1
    found = rng.integers(0, gold + 1)
    right = found + rng.integers(0, 2, sentences)
    counts = np.stack([right, right + rng.integers(0, 3, sentences), found, gold], axis=-1)
    f1, influence = f1_and_influence(counts[None])
    assert influence.sum() == pytest.approx(0, abs=1e-12)
    if f1[0] == 0:
        assert not influence.any()
        return
    step = 1e-6
    for sentence in range(sentences):
        moved = f1_of_totals(counts.sum(axis=0) + step * counts[sentence]) - f1[0]
        assert moved / step == pytest.approx(influence[0, sentence], abs=1e-4)
