"""The texts that ask for a polarity are analyses and rewritings as teachers write them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fsa_jax.synthetic.oracle import _FEELINGS
from fsa_jax.text import analysis
from fsa_jax.text.polarity_forms import (
    FEELINGS,
    FORMS,
    SCORED_POLARITIES,
    Question,
    analysis_beginning,
    question_of_category,
    texts_of,
)

TARGETS = st.text(st.characters(codec="utf-8", categories=["L", "N", "P", "Zs"]), min_size=1, max_size=20).filter(
    lambda text: text.strip(" \"'“”‘’[]()/.,;") == text
)


@given(target=TARGETS, aspect=st.none() | st.sampled_from(["Food, Quality", "General"]))
def test_analysis_texts_have_the_target_and_the_polarity(target, aspect):
    form = "analysis" if aspect is None else "analysis-aspect"
    texts = texts_of(form, Question(target, aspect))
    assert set(texts) == set(SCORED_POLARITIES)
    written = analysis.write([analysis.Opinion(target=target, sentiment="neutral")])
    (expected,) = (parsed.opinion.target for parsed in analysis.parse(written).opinions)
    for polarity, some in texts.items():
        for text in some:
            (parsed,) = analysis.parse(text).opinions
            assert parsed.opinion.target == expected
            assert parsed.opinion.sentiment.removeprefix("very ") == polarity
            assert parsed.opinion.aspects == (() if aspect is None else tuple(aspect.split(", ")))


@pytest.mark.parametrize("form", FORMS)
def test_no_text_is_the_beginning_of_another_or_its_probability_would_count_twice(form):
    texts = texts_of(form, Question("pizza", "Food"))
    every = [text for some in texts.values() for text in some]
    assert not [(one, other) for one in every for other in every if one != other and other.startswith(one)]


def test_the_beginning_of_an_analysis_ends_before_the_aspect():
    question = Question("the pizza", "Food")
    assert analysis_beginning(question) == 'Opinion Target 1: "the pizza"\nAspect:'
    assert texts_of("analysis-aspect", question)["neutral"][0].startswith(analysis_beginning(question) + " Food\n")


def test_an_analysis_with_an_aspect_needs_one():
    with pytest.raises(ValueError, match="aspect"):
        texts_of("analysis-aspect", Question("pizza"))


def test_the_feelings_include_those_of_the_demos_teacher():
    for sentiment, feelings in _FEELINGS.items():
        assert set(feelings) <= set(FEELINGS[sentiment.removeprefix("very ")])  # pyright: ignore[reportArgumentType])


@pytest.mark.parametrize(
    ("category", "target", "aspect"),
    [
        ("FOOD#QUALITY", "food", "Food, Quality"),
        ("HARD_DISC#OPERATION_PERFORMANCE", "hard disc", "Hard Disc, Operation Performance"),
        ("SERVICE#GENERAL", "service", "Service"),
        ("ambience", "ambience", "Ambience"),
    ],
)
def test_categories_become_words(category, target, aspect):
    assert question_of_category(category) == Question(target, aspect)
