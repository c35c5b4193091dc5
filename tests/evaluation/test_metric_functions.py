from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fsa_base.errors import DataError, SettingError
from fsa_jax.common.records import LabelledAspect, LabelledSentence
from fsa_jax.evaluation.released_rule import Scores, tuple_f1
from fsa_jax.evaluation.subsets import SUBSETS, select

_pairs = st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from(["positive", "negative"])), max_size=4)


@pytest.mark.parametrize(
    ("gold", "predicted", "scores"),
    [
        ([[("a", "p")]], [[("a", "p")]], Scores(1.0, 1.0, 1.0)),
        ([[("a", "p")]], [[("a", "n")]], Scores(0.0, 0.0, 0.0)),
        ([[("a", "p")], []], [[], [("a", "p")]], Scores(0.0, 0.0, 0.0)),
        ([[("a", "p"), ("b", "p")]], [[("a", "p"), ("a", "p"), ("c", "p")]], Scores(2 / 3, 1 / 2, 4 / 7)),
        ([[], []], [[], []], Scores(1.0, 1.0, 1.0)),
        ([[("a", "p")]], [[]], Scores(1.0, 0.0, 0.0)),
        ([[]], [[("a", "p")]], Scores(0.0, 1.0, 0.0)),
        ([], [], Scores(1.0, 1.0, 1.0)),
    ],
)
def test_tuple_f1(gold, predicted, scores):
    found = tuple_f1(gold, predicted)
    assert (found.precision, found.recall, found.f1) == pytest.approx((scores.precision, scores.recall, scores.f1))


@given(st.lists(st.tuples(_pairs, _pairs), max_size=6))
def test_swapping_gold_and_predictions_swaps_precision_and_recall(both):
    gold, predicted = [pair[0] for pair in both], [pair[1] for pair in both]
    there, back = tuple_f1(gold, predicted), tuple_f1(predicted, gold)
    assert (there.precision, there.recall) == (back.recall, back.precision)
    assert 0 <= there.f1 <= 1
    assert there.percent()["f1"] == 100 * there.f1


def test_sides_of_different_length():
    with pytest.raises(ValueError):
        tuple_f1([[]], [])


def _sentence(identity: str, *aspects: tuple[str, tuple[str, ...] | None], hard: bool = False) -> LabelledSentence:
    labelled = [LabelledAspect(polarity=polarity, opinion_words=words) for polarity, words in aspects]  # pyright: ignore
    return LabelledSentence(id=identity, text="", aspects=tuple(labelled), hard=hard)


SENTENCES = [
    _sentence("none"),
    _sentence("explicit", ("positive", ("good",)), ("positive", ("nice",))),
    _sentence("implicit", ("positive", ("good",)), ("negative", ()), hard=True),
    _sentence("multi", ("positive", ("good",)), ("neutral", ("so-so",))),
]


@pytest.mark.parametrize(
    ("subset", "identities"),
    [
        ("all", ["none", "explicit", "implicit", "multi"]),
        ("original", ["none", "explicit", "multi"]),
        ("hard", ["implicit"]),
        ("implicit", ["implicit"]),
        ("multi", ["implicit", "multi"]),
    ],
)
def test_subsets(subset, identities):
    assert [sentence.id for sentence in select(SENTENCES, subset)] == identities
    assert subset in SUBSETS


def test_implicit_needs_annotated_opinion_words():
    with pytest.raises(DataError, match="opinion words"):
        select([_sentence("train", ("positive", None))], "implicit")


def test_an_unknown_subset():
    with pytest.raises(SettingError, match="original, hard, implicit, multi"):
        select(SENTENCES, "easy")  # pyright: ignore
