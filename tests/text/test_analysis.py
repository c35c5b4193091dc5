from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fsa_jax.common.records import SENTIMENTS, Opinion
from fsa_jax.text import analysis

_words = st.text("abcdefghij ABC'-éñ", min_size=1, max_size=30).map(lambda text: " ".join(text.split())).filter(bool)
# Aspects and reasonings that are read back unchanged have one line, and no aspect looks like two.
_opinions = st.builds(
    Opinion,
    target=st.text("abc déf'ghij", min_size=1, max_size=30)
    .map(lambda text: " ".join(text.strip("' ").split()))
    .filter(bool),
    aspects=st.lists(st.sampled_from(["Food", "Quality/Taste", "Battery life", "Price"]), max_size=3).map(tuple),
    sentiment=st.sampled_from(SENTIMENTS),
    reasoning=st.none() | _words.map(lambda text: f'The word "{text}" says: so.'),
)


def _stated(text: str) -> list[Opinion]:
    return [parsed.opinion for parsed in analysis.parse(text).opinions]


@given(st.lists(_opinions, max_size=5, unique_by=lambda o: (o.target.lower(), o.aspects, o.sentiment)))
def test_what_is_written_is_read_back(opinions):
    text = analysis.write(opinions)
    parsed = analysis.parse(text)
    assert [found.opinion for found in parsed.opinions] == opinions
    assert parsed.dropped == () and parsed.ignored == ()
    assert analysis.is_analysis(text) == bool(opinions)


@given(
    st.text()
    | st.lists(st.sampled_from(["Opinion Target 1:", "Aspect", ":", "\n", '"', "Sentiment: Mild", "(", "1"])).map(
        "".join
    )
)
def test_any_text_is_parsed_and_target_offsets_are_right(text):
    for found in analysis.parse(text).opinions:
        assert text[found.start : found.end] == found.opinion.target


def test_the_released_format_is_written():
    opinions = [
        Opinion(
            target="pizza", aspects=("Food", "Quality/Taste"), sentiment="very positive", reasoning="It is  great."
        ),
        Opinion(target='the "staff"', sentiment="neutral"),
    ]
    assert analysis.write(opinions) == (
        'Opinion Target 1: "pizza"\nAspect: Food, Quality/Taste\nSentiment: Very Positive\nReasoning: It is great.\n\n'
        "Opinion Target 2: \"the 'staff'\"\nSentiment: Neutral"
    )


@pytest.mark.parametrize(
    ("label", "sentiment"),
    [
        ("Very Positive", "very positive"),
        ("Strong Positive", "very positive"),
        ("Mildly Negative", "negative"),
        ("MildNegative", "negative"),
        ("Positive (Mild)", "positive"),
        ('"neutral"', "neutral"),
        ("Mild Sentiment", "neutral"),
        ("Very Mild", "neutral"),
        ("Unspecified/Neutral", "neutral"),
        ("Mixed", "neutral"),
        ("Positive and Negative", "neutral"),
        ("Not Positive", None),
        ("Mild Surprise", None),
        ('Very Negative for "Pretentious", Very Positive for "Food"', None),
        ("", None),
    ],
)
def test_teachers_sentiment_labels(label, sentiment):
    assert analysis.parse_sentiment(label) == sentiment


@pytest.mark.parametrize(
    ("value", "aspects"),
    [
        ("Food, Quality/Taste", ("Food", "Quality/Taste")),
        ("Fit, referring to how well the iPad fits, too.", ("Fit",)),
        ("Gimmick, i.e., the false promise", ("Gimmick",)),
        ("Effectiveness (performance, speed)", ("Effectiveness",)),
        ("Attention to the Details, Price", ("Attention to the Details", "Price")),
        ("", ()),
    ],
)
def test_teachers_aspects(value, aspects):
    assert analysis.parse_aspects(value) == aspects


def test_a_target_with_several_groups_gives_an_opinion_for_each():
    text = (
        'Opinion Target 1: "router"\nAspect: Price\nSentiment: Positive\nReasoning: Cheap\n\n'
        "Aspect 2: Range\nSentiment 2: Mild Negative\nReasoning 2: Short\nand patchy.\n\nConfidence: 90%"
    )
    parsed = analysis.parse(text)
    assert [(o.opinion.target, o.opinion.aspects, o.opinion.sentiment) for o in parsed.opinions] == [
        ("router", ("Price",), "positive"),
        ("router", ("Range",), "negative"),
    ]
    assert parsed.opinions[1].opinion.reasoning == "Short and patchy."
    assert parsed.ignored == ("Confidence: 90%",)


@pytest.mark.parametrize(
    ("line", "target"),
    [
        ('Opinion Target 1: "the case" or "case"', "the case"),
        ("**Opinion Target 1:** “fried rice”", "fried rice"),
        ("1. Opinion Target 1: 'place'", "place"),
        ("Opinion Target 3: Speaker (not explicitly mentioned)", "Speaker"),
        ("OPINION TARGET (implicit): [Data Transfer]", "Data Transfer"),
        ("Opinion Target 1: the dog's bowl", "the dog's bowl"),
    ],
)
def test_teachers_targets(line, target):
    assert [o.target for o in _stated(f"{line}\nSentiment: Positive")] == [target]


def test_all_on_one_line():
    text = "Opinion Target 1: 'menu' Aspect: Menu Sentiment: Negative Reasoning: Said to be complicated."
    assert _stated(text) == [
        Opinion(target="menu", aspects=("Menu",), sentiment="negative", reasoning="Said to be complicated.")
    ]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ('Opinion Target 1: "cpu"\nAspect:\nSentiment:\nReasoning:', "no sentiment"),
        ('Opinion Target 1: "cpu"\nSentiment: Not Mentioned', "no sentiment"),
        ('Opinion Target 1: "cpu"\nSentiment: (your own analysis here)', "unknown sentiment"),
        ("Opinion Target 5:\nSentiment: Positive", "no target"),
        ("Opinion Target 2", "no target"),
    ],
)
def test_parts_without_an_opinion_are_dropped_with_a_reason(text, reason):
    parsed = analysis.parse(text)
    assert parsed.opinions == ()
    assert [dropped.reason for dropped in parsed.dropped] == [reason]


def test_a_repeated_opinion_is_dropped():
    text = 'Opinion Target 1: "Ribs"\nSentiment: Positive\n\nOPINION TARGET 1: "ribs"\nSENTIMENT: Positive'
    parsed = analysis.parse(text)
    assert len(parsed.opinions) == 1 and [dropped.reason for dropped in parsed.dropped] == ["repeated"]


def test_real_teacher_text(real_data_dir):
    """Every real analysis gives an opinion or a reason why not; the numbers are of the 400 released rows."""
    lines = (real_data_dir / "teacher" / "mixtral_8x7b_reviews.jsonl").read_text(encoding="utf-8-sig").splitlines()
    texts = [json.loads(line)["mixtral_response"] for line in lines]
    analyses = {index: analysis.parse(text) for index, text in enumerate(texts) if analysis.is_analysis(text)}
    assert (len(texts), len(analyses)) == (400, 183)
    assert all(found.opinions or found.dropped for found in analyses.values())
    assert sum(not found.opinions for found in analyses.values()) == 1
    assert sum(len(found.opinions) for found in analyses.values()) == 773
    for index, found in analyses.items():
        for parsed in found.opinions:
            assert texts[index][parsed.start : parsed.end] == parsed.opinion.target
    assert not any("Sentiment:" in text for index, text in enumerate(texts) if index not in analyses)
