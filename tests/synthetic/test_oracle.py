"""The oracle teacher: no mistakes by default, else mistakes at the given rate, in the form of the released text."""

from __future__ import annotations

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fsa_base.errors import SettingError
from fsa_jax.synthetic.oracle import Oracle
from fsa_jax.synthetic.world import KnownReview, draw_reviews
from fsa_jax.text import analysis

SENTIMENTS = {-2: "very negative", -1: "negative", 0: "neutral", 1: "positive", 2: "very positive"}
REVIEWS = list(draw_reviews(11, 1500))


def known_opinions(known: KnownReview) -> list[tuple[str, str]]:
    return [(opinion.target or known.domain.whole, SENTIMENTS[opinion.score]) for opinion in known.opinions]


@settings(max_examples=60)
@given(st.integers(0, 2**32), st.integers(0, 1000))
def test_without_mistakes_the_analysis_reads_back_as_the_known_opinions(world, teacher):
    for known in draw_reviews(world, 4):
        text = Oracle(seed=teacher).write(known, "analysis")
        parsed = analysis.parse(text)
        assert not parsed.dropped and not parsed.ignored
        assert [(o.opinion.target, o.opinion.sentiment) for o in parsed.opinions] == known_opinions(known)
        assert analysis.is_analysis(text)
        for read, opinion in zip(parsed.opinions, known.opinions, strict=True):
            facet = opinion.draft.facet
            names = facet.aspects if facet else known.domain.general_aspects
            assert ", ".join(read.opinion.aspects) in names
            assert read.opinion.reasoning


def test_the_rewriting_is_in_the_first_person_and_names_every_target():
    for known in REVIEWS[:300]:
        text = Oracle().write(known, "rewriting")
        assert not analysis.is_analysis(text)
        sentences = re.split(r"(?<=\.) (?=I )", text)
        assert len(sentences) == len(known.opinions)
        assert "the user" not in text.lower()
        for sentence, (target, _) in zip(sentences, known_opinions(known), strict=True):
            assert sentence.startswith("I ") and target in sentence


def test_mistakes_have_the_set_rate():
    oracle = Oracle(seed=5, mistake_rate=0.2)
    opinions = sum(len(known.opinions) for known in REVIEWS)
    taught = [oracle.understand(known) for known in REVIEWS]
    reported = sum(len(one.mistakes) for one in taught)
    assert reported / opinions == pytest.approx(0.2, abs=0.02)
    kinds = {kind for one in taught for kind in one.mistakes}
    assert kinds == {"flipped sentiment", "missed opinion", "wrong target"}
    # Every mistake that it reports is in the text, and no other.
    for known, one in zip(REVIEWS, taught, strict=True):
        written = [(opinion.target, opinion.sentiment) for opinion in one.opinions]
        wrong = len([pair for pair in known_opinions(known) if pair not in written])
        assert wrong == len(one.mistakes)


def test_hallucinations_have_the_set_rate_and_name_absent_things():
    oracle = Oracle(seed=6, hallucination_rate=0.3)
    taught = [oracle.understand(known) for known in REVIEWS]
    assert sum(one.hallucinated for one in taught) / len(taught) == pytest.approx(0.3, abs=0.04)
    for known, one in zip(REVIEWS, taught, strict=True):
        absent = [o for o in one.opinions if o.target.lower() not in known.review.text.lower()]
        absent = [o for o in absent if o.target != known.domain.whole]
        assert len(absent) == one.hallucinated


def test_both_texts_express_the_same_opinions():
    oracle = Oracle(seed=1, mistake_rate=0.5, hallucination_rate=0.5)
    for known in REVIEWS[:200]:
        rewriting = oracle.write(known, "rewriting")
        for read in analysis.parse(oracle.write(known, "analysis")).opinions:
            assert read.opinion.target in rewriting


def test_the_same_seed_makes_the_same_mistakes():
    known = REVIEWS[0]
    assert Oracle(3, 0.5, 0.5).understand(known) == Oracle(3, 0.5, 0.5).understand(known)
    answers = {Oracle(seed, 0.9, 0.9).write(known, "analysis") for seed in range(8)}
    assert len(answers) > 1


@pytest.mark.parametrize("rates", [(-0.1, 0.0), (0.0, 1.5)])
def test_a_rate_that_is_not_a_probability_is_refused(rates):
    with pytest.raises(SettingError, match="_rate"):
        Oracle(0, *rates)
