from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fsa_jax.common.records import POLARITIES, LabelledAspect, LabelledSentence
from fsa_jax.text.pairs import ACSA, ATSA

_polarities = st.sampled_from(POLARITIES)
_texts = st.text(min_size=1, max_size=60)


@st.composite
def _sentences(draw) -> LabelledSentence:
    """Sentences of any characters, with overlapping and repeated targets cut from them."""
    text = draw(_texts)
    aspects = []
    for _ in range(draw(st.integers(0, 5))):
        start = draw(st.integers(0, len(text) - 1))
        end = draw(st.integers(start + 1, len(text)))
        target = draw(st.sampled_from([text[start:end], text[start:end], None]))
        category = draw(st.none() | st.sampled_from(["FOOD#QUALITY", "A;B", "C|D", "Service General"]))
        aspects.append(
            LabelledAspect(
                target=target,
                category=category,
                polarity=draw(_polarities),
                start=start if target else None,
                end=end if target else None,
                offsets_as_text=draw(st.booleans()),
            )
        )
    return LabelledSentence(id="1", text=text, aspects=tuple(aspects))


@given(_sentences(), st.sampled_from(["position", "released"]))
def test_atsa_round_trip(sentence, order):
    pairs = ATSA.decode(ATSA.encode(sentence, order=order), sentence.text)
    marked = ATSA.unreadable(sentence)
    kept = [aspect for aspect in sentence.aspects if aspect.target and aspect not in marked]
    assert sorted(pairs) == sorted(
        (target.strip(), polarity) for target, polarity, _, _ in {(a.target, a.polarity, a.start, a.end) for a in kept}
    )
    assert all(a.target and (set(a.target) & set(";|") or not a.target.strip()) for a in marked)


@given(_sentences())
def test_acsa_round_trip(sentence):
    pairs = ACSA.decode(ACSA.encode(sentence), sentence.text)
    categories = {"FOOD#QUALITY": "food quality", "Service General": "service general"}
    expected = [(categories[a.category], a.polarity) for a in sentence.aspects if a.category in categories]
    assert pairs == list(dict.fromkeys(expected))
    assert {aspect.category for aspect in ACSA.unreadable(sentence)} <= {"A;B", "C|D"}


@given(st.text() | st.lists(st.sampled_from(["a", " ; ", "|", " | ", "positive", "conflict", ""])).map("".join), _texts)
def test_any_prediction_is_read(prediction, sentence_text):
    for term, polarity in ATSA.decode(prediction, sentence_text):
        assert term in sentence_text and polarity in POLARITIES
    ACSA.decode(prediction, sentence_text)


def _aspect(target, polarity, start, text=True):
    return LabelledAspect(
        target=target, polarity=polarity, start=start, end=start + len(target), offsets_as_text=text, category="A#B C"
    )


@pytest.mark.parametrize(
    ("order", "as_text", "encoded"),
    [
        ("position", True, "tea | neutral ; cup | positive ; cup | conflict"),
        ("released", True, "cup | positive ; cup | conflict ; tea | neutral"),
        ("released", False, "tea | neutral ; cup | positive ; cup | conflict"),
    ],
)
def test_order_of_the_offsets(order, as_text, encoded):
    aspects = (
        _aspect("cup", "positive", 104, as_text),
        _aspect("cup", "conflict", 104, as_text),
        _aspect("tea", "neutral", 22, as_text),
        _aspect("tea", "neutral", 22, as_text),
        LabelledAspect(polarity="negative"),
    )
    sentence = LabelledSentence(id="1", text="cup tea", aspects=aspects)
    assert ATSA.encode(sentence, order=order) == encoded
    assert ACSA.encode(sentence, order=order) == "a b c | positive ; a b c | conflict ; a b c | neutral"


def test_no_aspects_give_no_text():
    sentence = LabelledSentence(id="1", text="Hm.")
    assert ATSA.encode(sentence) == ACSA.encode(sentence) == ""
    assert ATSA.decode("", "Hm.") == ACSA.decode("", "Hm.") == []


@pytest.mark.parametrize(
    ("text", "pairs"),
    [
        ("tea|positive;cup | negative ", [("tea", "positive"), ("cup", "negative")]),
        ("tea | positive ; tea | positive", [("tea", "positive")] * 2),
        ("tea | Positive ; tea", []),
        ("tea | positive | cup ; pot | negative", []),
    ],
)
def test_predictions_are_parsed_by_the_released_rule(text, pairs):
    assert ATSA.decode(text, "tea cup") == pairs
