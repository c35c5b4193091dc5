"""Quotas, shortfalls and the bottom-k sample."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fsa_base.errors import DataError, SettingError
from fsa_jax.reviews.distinct_sample import DistinctSample
from fsa_jax.reviews.near_duplicates import near_duplicates, signature
from fsa_jax.reviews.strata import PAPER_STARS_RATIO, Stratum, quotas, settle, strata_shares
from fsa_jax.text.words import priority

PAPER = strata_shares(PAPER_STARS_RATIO, None, None)


def test_the_papers_ratio():
    assert [quotas(PAPER, 1000)[Stratum(stars=stars)] for stars in range(1, 6)] == [100, 200, 400, 200, 100]


def test_shares_of_ratios_are_multiplied():
    shares = strata_shares({"3": 1}, {"a": 1, "b": 3}, 0.25)
    assert shares[Stratum("b", 3, True)] == pytest.approx(0.75 * 0.25)
    assert len(shares) == 4 and sum(shares.values()) == pytest.approx(1)


@given(
    st.dictionaries(st.sampled_from("012345"), st.floats(0.01, 100), min_size=1),
    st.integers(1, 10_000),
)
def test_quotas_sum_to_the_size_and_stay_within_one(ratio, size):
    shares = strata_shares(ratio, None, None)
    found = quotas(shares, size)
    assert sum(found.values()) == size
    assert all(abs(found[stratum] - share * size) < 1 for stratum, share in shares.items())


@settings(max_examples=60)
@given(
    st.lists(st.integers(0, 400), min_size=5, max_size=5),
    st.integers(1, 1500),
)
def test_a_shrunk_sample_is_as_large_as_possible(available, size):
    there = {Stratum(stars=stars): count for stars, count in enumerate(available, start=1)}
    try:
        taken = settle(PAPER, size, there, "shrink")
    except DataError:
        taken = dict.fromkeys(PAPER, 0)
    total = sum(taken.values())
    assert taken == quotas(PAPER, total) if total else True
    assert all(taken[stratum] <= there[stratum] for stratum in taken)
    if total < size:
        assert any(quota > there[stratum] for stratum, quota in quotas(PAPER, total + 1).items())


def test_the_other_ways_to_meet_a_shortfall():
    there = {Stratum(stars=stars): 100 for stars in range(1, 6)}
    filled = settle(PAPER, 500, there, "fill")
    assert [filled[Stratum(stars=stars)] for stars in range(1, 6)] == [50, 100, 100, 100, 50]
    with pytest.raises(DataError, match="ask for 25"):
        settle(PAPER, 500, there, "error")
    assert settle(PAPER, 250, there, "error") == quotas(PAPER, 250)
    with pytest.raises(DataError):
        settle(PAPER, 500, {}, "fill")


@pytest.mark.parametrize("ratio", [{}, {"1": -1.0}, {"1": 0.0}, {"6": 1.0}, {"3": float("nan")}])
def test_invalid_ratios(ratio):
    with pytest.raises(SettingError):
        strata_shares(ratio, None, None)
    with pytest.raises(SettingError):
        strata_shares(None, {}, None)


@given(st.lists(st.integers(0, 50), max_size=300), st.integers(0, 20))
def test_bottom_k_keeps_the_lowest_distinct_and_their_first_rows(values, k):
    bottom = DistinctSample(k)
    for row, value in enumerate(values):
        bottom.offer(value, row)
    priorities, rows = bottom.candidates()
    expected = sorted(set(values))[:k]
    assert priorities.tolist() == expected
    assert rows.tolist() == [values.index(value) for value in expected]


def test_priority_is_seeded_and_ignores_case_and_punctuation():
    assert priority("Great  FOOD!!", 1) == priority("great food", 1) != priority("great food", 2)


def test_near_duplicates_keep_the_first_in_order():
    base = "the pizza was great and the staff were friendly but we waited an hour for a table on a busy friday night"
    texts = [
        base,
        base.replace("friday", "saturday"),
        "a laptop with a bright screen and a poor keyboard " * 2,
        base + " ok",
    ]
    signatures = np.stack([signature(text) for text in texts])
    assert near_duplicates(signatures, np.array([0, 1, 2, 3]), 0.6).tolist() == [False, True, False, True]
    assert near_duplicates(signatures, np.array([3, 2, 1, 0]), 0.6).tolist() == [True, True, False, False]
    assert not near_duplicates(signatures, np.array([0, 1, 2, 3]), 1.0)[1]
