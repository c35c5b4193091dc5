"""Junk in teacher text: it is removed and counted, or the text has a defect with a name."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fsa_jax.checking.junk import clean
from fsa_jax.text.analysis import parse

OPINION = (
    'Opinion Target 1: "pizza"\nAspect: Food\nSentiment: Positive\nReasoning: The word "good" is said of the pizza.'
)
SECOND = OPINION.replace("Target 1", "Target 2").replace("pizza", "service")
REWRITING = "I enjoyed the pizza at this place. The service, sadly, was slow."


def targets(text: str) -> list[str]:
    return [found.opinion.target for found in parse(text).opinions]


@pytest.mark.parametrize("text", ["", "  \n ", "...", "---"])
def test_a_teacher_that_answers_nothing(text):
    assert clean(text, "analysis").defect == clean(text, "rewriting").defect == "teacher answered nothing"


@pytest.mark.parametrize(
    "text",
    [
        "I'm sorry, but I can't help with that.",
        "As an AI language model, I have no feelings.",
        "Unfortunately, I cannot provide an analysis of this review.",
    ],
)
def test_refusals(text):
    assert clean(text, "rewriting").defect == "refusal"


def test_an_apology_of_a_reviewer_is_not_a_refusal():
    assert clean("I am disappointed and sorry that I bought it.", "rewriting").defect is None


@pytest.mark.parametrize(
    "line", ["Confidence: 90%", "Confidence Rating: 90%", "**Confidence level: high**", "(Confidence: 89.7%)"]
)
@pytest.mark.parametrize(("form", "text"), [("analysis", OPINION), ("rewriting", REWRITING)])
def test_confidence_lines(line, form, text):
    found = clean(f" {text}\n\n{line}\n", form)
    assert (found.text, found.repairs) == (text, ("confidence line",))


@pytest.mark.parametrize(
    "head", ["Sure, here is the rewritten review:\n\n", "Rewritten review: ", "Here's my version:\n", "**Answer:** "]
)
def test_headers(head):
    found = clean(head + REWRITING, "rewriting")
    assert (found.text.lstrip("* "), found.repairs) == (REWRITING, ("header",))


@pytest.mark.parametrize(
    "tail",
    [
        "Review: the speaker has excellent sound.\n" + OPINION.replace("pizza", "speaker"),
        "---Second Review---\n\nReview: coins.\n\n" + OPINION.replace("pizza", "coin sorter"),
        "Let's analyze another review:\nReview: x\n" + OPINION.replace("pizza", "camping trip"),
        "Example 2:\n" + OPINION.replace("pizza", "calculator"),
        "User 2: " + OPINION.replace("pizza", "phone"),
    ],
)
def test_invented_reviews_are_cut(tail):
    found = clean(f"{OPINION}\n\n{SECOND}\n\n{tail}", "analysis")
    assert targets(found.text) == ["pizza", "service"]
    assert "another review" in found.repairs


def test_text_around_opinions_is_removed_and_later_opinions_are_kept():
    middle = "As part of a research study, your task is to label additional targets."
    found = clean(f"Below are the targets.\n\n{OPINION}\n\n{middle}\n\n{SECOND}\n\nGood luck!", "analysis")
    assert found.text == f"{OPINION}\n\n{SECOND}"
    assert found.repairs == ("text around the opinions",)


def test_only_the_last_opinion_of_a_cut_off_analysis_is_removed():
    for end in (SECOND[:20], SECOND[:-60], SECOND[:-25]):
        found = clean(f"{OPINION}\n\n{end}", "analysis")
        assert found.text == OPINION and found.repairs == ("cut-off last opinion",), end
    # Complete except for the full stop.
    assert clean(f"{OPINION}\n\n{SECOND.rstrip('.')}", "analysis").repairs == ()
    # The engine reported a cut-off, so the punctuation does not matter.
    assert clean(f"{OPINION}\n\n{SECOND}", "analysis", cut_off=True).text == OPINION
    assert clean(OPINION[:60], "analysis").defect == "cut off in its first opinion"


def test_only_the_last_sentence_of_a_cut_off_rewriting_is_removed():
    found = clean(REWRITING + " And then I", "rewriting")
    assert (found.text, found.repairs) == (REWRITING, ("cut-off last sentence",))
    assert clean("And then I", "rewriting", cut_off=True).defect == "cut off in its first sentence"
    assert clean("Worth $5.50 to me", "rewriting").text == "Worth $5.50 to me"


def test_loops():
    assert clean("I really liked the pizza there. " * 40, "rewriting").defect == "loop"
    assert clean("good " * 400, "rewriting").defect == "loop"
    repeated = "\n\n".join(OPINION.replace("Target 1", f"Target {i}") for i in range(1, 30))
    assert clean(repeated, "analysis").defect == "loop"
    several = "\n\n".join(OPINION.replace("Target 1", f"Target {i}").replace("pizza", f"dish {i}") for i in range(1, 7))
    assert clean(several, "analysis").defect is None


def test_the_wrong_form():
    assert clean(OPINION, "rewriting").defect == "an analysis where a rewriting was asked"
    assert clean(REWRITING, "analysis").defect == "no opinion"
    third = "The reviewer enjoyed the pizza. The author found the service slow."
    assert clean(third, "rewriting").defect == "third person, about the reviewer"
    assert clean("The pizza is good, as the other reviewers say.", "rewriting").defect is None


@given(st.text(max_size=300), st.sampled_from(["analysis", "rewriting"]), st.booleans())
def test_any_text_can_be_cleaned_and_cleaning_is_idempotent(text, form, cut_off):
    found = clean(text, form, cut_off)
    assert bool(found.text) == (found.defect is None)
    if found.defect is None and not cut_off:
        again = clean(found.text, form)
        assert again.defect is not None or len(again.text) <= len(found.text)
