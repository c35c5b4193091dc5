from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from fsa_jax.common.records import POLARITIES, LabelledAspect, LabelledSentence
from fsa_jax.evaluation.released_rule import tuple_f1
from fsa_jax.evaluation.subsets import select
from fsa_jax.text.tuples import ASQP, CODECS, NULL, TASD

_texts = st.text(min_size=1, max_size=60)
_categories = ["FOOD#QUALITY", "A;B", "C|D", "Service General", " "]
_readable = {"FOOD#QUALITY": "food quality", "Service General": "service general"}


@st.composite
def _sentences(draw) -> LabelledSentence:
    """Sentences of any characters; terms and opinion words are cut from them, some opinion words from elsewhere."""
    text = draw(_texts)

    def part() -> str:
        start = draw(st.integers(0, len(text) - 1))
        return text[start : draw(st.integers(start + 1, len(text)))]

    aspects = []
    for _ in range(draw(st.integers(0, 5))):
        target = part() if draw(st.booleans()) else None
        start = text.index(target) if target else None
        opinions = [part() for _ in range(draw(st.integers(0, 2)))] + draw(st.sampled_from([[], [], ["elsewhere" * 8]]))
        aspects.append(
            LabelledAspect(
                target=target,
                category=draw(st.none() | st.sampled_from(_categories)),
                polarity=draw(st.sampled_from(POLARITIES)),
                start=start,
                end=start + len(target) if target and start is not None else None,
                opinion_words=draw(st.none() | st.just(tuple(opinions))),
            )
        )
    return LabelledSentence(id="1", text=text, aspects=tuple(aspects))


def _separable(words: str) -> bool:
    return bool(words.strip()) and not set(words) & set(";|")


@given(_sentences())
def test_tasd_round_trip(sentence: LabelledSentence) -> None:
    unreadable = TASD.unreadable(sentence)
    expected = [
        ((a.target or NULL).strip(), _readable[a.category], a.polarity)
        for a in sorted(sentence.aspects, key=lambda a: (a.start or 0, a.end or 0))
        if a.category in _readable and (a.target is None or _separable(a.target))
    ]
    assert TASD.decode(TASD.encode(sentence), sentence.text) == list(dict.fromkeys(expected))
    for aspect in sentence.aspects:
        fits = aspect.category in _readable and (aspect.target is None or _separable(aspect.target))
        assert (aspect in unreadable) == (aspect.category is not None and not fits)


@given(_sentences())
def test_asqp_round_trip(sentence: LabelledSentence) -> None:
    unreadable = ASQP.unreadable(sentence)
    kept = [
        a
        for a in sorted(sentence.aspects, key=lambda a: (a.start or 0, a.end or 0))
        if a.category and a.opinion_words is not None and a not in unreadable
    ]
    expected = [
        ((a.target or NULL).strip(), _readable[str(a.category)], a.polarity, words.strip())
        for a in kept
        for words in a.opinion_words or (NULL,)
    ]
    assert ASQP.decode(ASQP.encode(sentence), sentence.text) == list(dict.fromkeys(expected))
    for aspect in unreadable:
        words = [aspect.target or NULL, aspect.category or "", *(aspect.opinion_words or ())]
        outside = any(part not in sentence.text for part in aspect.opinion_words or ())
        assert outside or not all(map(_separable, words))


_fragments = ["a", "b", "NULL", " ; ", ";", "|", " | ", "positive", "conflict", "food", "", " "]


@given(st.text() | st.lists(st.sampled_from(_fragments)).map("".join), _texts)
def test_any_prediction_is_read(prediction: str, sentence_text: str) -> None:
    for name, codec in CODECS.items():
        for found in codec.decode(prediction, sentence_text):
            assert len(found) == len(codec.parts)
            assert found[codec.parts.index("polarity")] in POLARITIES
            if len(found) > 2:
                assert all(words == NULL or words in sentence_text for words in (found[0], *found[3:])), name


def test_the_text_of_triples_and_quadruples() -> None:
    aspects = [
        {"target": "tea", "category": "DRINKS#QUALITY", "polarity": "positive", "start": 34, "end": 37},
        {"target": "staff", "category": "SERVICE#GENERAL", "polarity": "conflict", "start": 4, "end": 9},
        {"category": "RESTAURANT#GENERAL", "polarity": "neutral"},
    ]
    words = [("good",), ("rude", "quick"), ()]
    sentence = LabelledSentence(
        id="1",
        text="The staff was rude but quick, the tea good.",
        aspects=tuple(
            LabelledAspect.model_validate({**aspect, "opinion_words": opinions})
            for aspect, opinions in zip(aspects, words, strict=True)
        ),
    )
    assert TASD.encode(sentence) == (
        "NULL | restaurant general | neutral ; staff | service general | conflict ; tea | drinks quality | positive"
    )
    assert ASQP.encode(sentence) == (
        "NULL | restaurant general | neutral | NULL ; staff | service general | conflict | rude ; "
        "staff | service general | conflict | quick ; tea | drinks quality | positive | good"
    )
    assert select([sentence], "implicit") == select([sentence], "multi") == [sentence]


def test_scores_of_quadruples() -> None:
    text = "The tea was good."
    gold = [ASQP.decode("tea | drinks | positive | good ; NULL | place | neutral | NULL", text)]
    wrong = ["tea | drinks | positive | bad", "tea | drinks | positive", "NULL | place | neutral | good"]
    predicted = ASQP.decode(" ; ".join(["tea | drinks | positive | good", *wrong]), text)
    assert len(predicted) == 2
    assert tuple_f1(gold, [predicted]).percent() == {"precision": 50.0, "recall": 50.0, "f1": 50.0}
