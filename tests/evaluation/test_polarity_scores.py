"""Macro F1, accuracy and their bootstrap."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import f1_score

from fsa_jax.evaluation.polarity_scores import bootstrap, polarity_scores
from fsa_jax.text.polarity_forms import SCORED_POLARITIES

POLARITY = st.sampled_from(SCORED_POLARITIES)
ROWS = st.lists(st.tuples(st.integers(0, 9), POLARITY, POLARITY, st.none() | POLARITY), min_size=1, max_size=30)


@given(ROWS)
@settings(max_examples=20, deadline=None)
def test_the_difference_is_that_of_scikit_learn(rows):
    sentences, gold, first, second = ([row[i] for row in rows] for i in range(4))
    found = bootstrap([str(sentence) for sentence in sentences], gold, second, first)
    one, other = polarity_scores(gold, first), polarity_scores(gold, second)
    assert found["macro F1"].mean == pytest.approx(other.macro_f1 - one.macro_f1)
    assert found["accuracy"].mean == pytest.approx(other.accuracy - one.accuracy)
    labels = sorted(set(gold))
    assert one.macro_f1 == pytest.approx(f1_score(gold, first, labels=labels, average="macro", zero_division=0.0))  # pyright: ignore[reportArgumentType]


def test_no_answer_is_wrong():
    scores = polarity_scores(["positive", "negative"], ["positive", None])
    assert (scores.accuracy, scores.macro_f1, dict(scores.f1)) == (0.5, 0.5, {"positive": 1.0, "negative": 0.0})


def test_a_polarity_that_is_only_predicted_is_no_class_of_its_own():
    scores = polarity_scores(["positive", "negative"], ["positive", "neutral"])
    assert scores.macro_f1 == 0.5


def test_nothing_to_score_is_an_error():
    with pytest.raises(ValueError, match="nothing"):
        polarity_scores([], [])


def test_equal_answers_have_no_difference():
    gold = ["positive", "negative", "neutral"] * 5
    found = bootstrap([str(i) for i in range(15)], gold, gold, gold)
    assert [(one.mean, one.low, one.high) for one in found.values()] == [(0, 0, 0)] * 2


def test_the_interval_of_accuracy_is_that_of_scipy():
    draw = np.random.default_rng(1)
    gold = draw.choice(SCORED_POLARITIES, 120).tolist()
    said = [one if draw.random() < 0.7 else "neutral" for one in gold]
    ours = bootstrap([str(i) for i in range(120)], gold, said)["accuracy"]
    right = np.array([one == other for one, other in zip(gold, said, strict=True)], float)
    theirs = scipy.stats.bootstrap((right,), np.mean, method="percentile", rng=2).confidence_interval
    assert (ours.low, ours.high) == pytest.approx((theirs.low, theirs.high), abs=0.012)


def test_sentences_are_drawn_whole():
    """Ten labels of one sentence are no more certain than one."""
    gold = ["positive", "negative"] * 10
    said = ["positive", "positive"] * 10
    narrow = bootstrap([str(i) for i in range(20)], gold, said)["accuracy"]
    wide = bootstrap([str(i // 10) for i in range(20)], gold, said)["accuracy"]
    assert (wide.low, wide.high) == (0.5, 0.5)
    assert narrow.low < 0.4 and narrow.high > 0.6
