"""Texts that ask a student for the polarity of a target or a category: the beginning of an analysis, or a rewriting.

A form has several texts for each polarity, and a student says how likely each of them is. The texts are those of
teachers: an analysis (:mod:`fsa_jax.text.analysis`) up to its sentiment, and sentences in the first person like those
of a rewriting. Several words for one polarity, because teachers write "Very Positive" and "Positive", and the middle of
the scale as "Neutral", "Mild Sentiment" or "Mixed" (all are in the released text of arXiv 2412.18552).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal, get_args

from fsa_jax.common.records import Opinion
from fsa_jax.text import analysis

ScoredPolarity = Literal["positive", "negative", "neutral"]
SCORED_POLARITIES: tuple[ScoredPolarity, ScoredPolarity, ScoredPolarity] = get_args(ScoredPolarity)
"""The polarities between which a student chooses; "conflict" has no place on a teacher's scale."""

FormName = Literal["analysis", "analysis-aspect", "rewriting"]
FORMS: tuple[FormName, ...] = get_args(FormName)

Texts = Mapping[ScoredPolarity, tuple[str, ...]]
"""The texts of a form for each polarity."""

SENTIMENT_WORDS: Texts = MappingProxyType(
    {
        "positive": ("Positive", "Very Positive"),
        "negative": ("Negative", "Very Negative"),
        "neutral": ("Neutral", "Mild Sentiment", "Mixed"),
    }
)
FEELINGS: Texts = MappingProxyType(
    {
        "positive": ("I like", "I love", "I really love", "I am pleased with", "I am delighted with"),
        "negative": (
            "I do not like",
            "I hate",
            "I really hate",
            "I am unhappy with",
            "I am disappointed with",
            "I am furious about",
        ),
        "neutral": ("I am neutral about", "I have no feelings about", "I have no opinion on"),
    }
)


@dataclass(frozen=True)
class Question:
    """What is asked about: an aspect term, or an aspect category, whose words then stand in the target's place."""

    target: str
    aspect: str | None = None
    """The aspect as an analysis names it ("Food, Quality"); None if the student is to name it."""


def question_of_category(category: str) -> Question:
    """The question about an aspect category.

    Example:
      >>> question_of_category("FOOD#STYLE_OPTIONS"), question_of_category("SERVICE#GENERAL").aspect
      (Question(target='food', aspect='Food, Style Options'), 'Service')
    """
    entity, _, attribute = (part.replace("_", " ").strip() for part in category.partition("#"))
    parts = [entity.title()] if attribute.upper() in ("", "GENERAL") else [entity.title(), attribute.title()]
    return Question(entity.lower(), ", ".join(part for part in parts if part))


def analysis_beginning(question: Question) -> str:
    """An analysis up to the aspect: ``Opinion Target 1: "pizza"``, a line end and ``Aspect:``."""
    return f"{_before_sentiment(question.target, ()).removesuffix('Sentiment:')}Aspect:"


def texts_of(form: FormName, question: Question) -> Texts:
    """The texts of a form.

    ``analysis`` has no line with an aspect, as if the teacher had left it out; ``analysis-aspect`` has one, and needs
    an aspect. A text of these two ends with the line end after the sentiment, so that "Positive" is no beginning of
    "Positive (Mild)", and the texts exclude each other.
    """
    if form == "rewriting":
        target = " ".join(question.target.split())
        return {polarity: tuple(f"{words} the {target}" for words in FEELINGS[polarity]) for polarity in FEELINGS}
    aspects = ()
    if form == "analysis-aspect":
        if question.aspect is None:
            raise ValueError("this form needs an aspect")
        aspects = (question.aspect,)
    before = _before_sentiment(question.target, aspects)
    return {polarity: tuple(f"{before} {word}\n" for word in SENTIMENT_WORDS[polarity]) for polarity in SENTIMENT_WORDS}


def _before_sentiment(target: str, aspects: tuple[str, ...]) -> str:
    """An analysis of one opinion, as :func:`analysis.write` writes it, up to the colon before its sentiment."""
    text = analysis.write([Opinion(target=target, aspects=aspects, sentiment="neutral")])
    return text.removesuffix(" Neutral")
