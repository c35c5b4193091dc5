"""Grounding of targets, facts of rewritings, and agreement with rows that were labelled by hand."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fsa_jax.checking.grounding import facts, ground, numbers

LABELS = json.loads((Path(__file__).parents[1] / "testdata" / "grounding_labels.json").read_text("utf-8"))
REVIEW = "The Batteries died after 2 weeks, and the touch pad is sloooow. Loved the servcie at Joe's Café though."


@pytest.mark.parametrize(
    ("target", "kind"),
    [
        ("batteries", "exact"),
        ("touch pad", "exact"),
        ("joe's cafe", "exact"),
        ("battery", "normalised"),
        ("touchpad", "normalised"),
        ("the battery's life", "absent"),
        ("quality of the batteries", "normalised"),
        ("service", "fuzzy"),
        ("screen", "absent"),
        ("pad cover", "absent"),
        ("rest", "absent"),
        ("[Product]", "absent"),
        ("[batteries]", "absent"),
        ("", "absent"),
        ("!!", "absent"),
    ],
)
def test_kinds(target, kind):
    assert ground(target, REVIEW).kind == kind


def test_the_threshold_changes_the_verdict():
    target = "battery warranty terms"
    assert ground(target, REVIEW, 0.3).score == pytest.approx(1 / 3)
    assert not ground(target, REVIEW, 0.5).grounded
    assert not ground("battery and keyboard", REVIEW, 0.6).grounded
    assert ground("keyboard battery", REVIEW, 0.5).grounded


@given(st.text(max_size=60), st.text(max_size=200))
def test_any_text_can_be_looked_up(target, review):
    found = ground(target, review)
    assert 0 <= found.score <= 1
    assert found.grounded == (found.kind != "absent")


@given(st.lists(st.sampled_from(["pizza", "Café", "wi-fi", "don't", "i7", "battery", "größe"]), min_size=1, max_size=5))
def test_words_of_the_review_are_always_grounded(words):
    target = " ".join(words)
    assert ground(target, f"well, {target.upper()}! ok").grounded


def labelled(real_data_dir):
    rows = {}
    with (real_data_dir / "teacher" / "mixtral_8x7b_reviews.jsonl").open(encoding="utf-8-sig") as file:
        for line in file:
            row = json.loads(line)
            rows[str(row["ID"])] = row
    for row in LABELS["rows"]:
        real = rows[row["id"]]
        for start, end, grounded in row["targets"]:
            yield row["id"], real["mixtral_response"][start:end], real["Text"], grounded


def test_verdicts_agree_with_labels_by_hand(real_data_dir):
    """Compares all targets, whole rows, and ungrounded targets separately: most targets are grounded, so a rule that
    calls every target grounded would agree with 88% of them."""
    assert len(LABELS["rows"]) == 60
    agreed: dict[bool, list[bool]] = {True: [], False: []}
    rows: dict[str, bool] = {}
    for identity, target, review, grounded in labelled(real_data_dir):
        same = ground(target, review).grounded == grounded
        agreed[grounded].append(same)
        rows[identity] = rows.get(identity, True) and same
    both = agreed[True] + agreed[False]
    assert len(both) == 227
    assert sum(both) / len(both) >= 0.95
    assert sum(agreed[False]) / len(agreed[False]) >= 0.9
    assert sum(rows.values()) / len(rows) >= 0.9


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("over fifty donuts for $7.50", [50, 7.5]),
        ("twenty-five minutes, a dozen and two hundred fifty", [25, 12, 250]),
        ("closed at 7:30 with 1,200 people", [7.5, 1200]),
        ("one of the two", []),
        ("a five-star place, 4 stars", []),
        ("nine out of ten", [9, 10]),
    ],
)
def test_numbers(text, values):
    assert [value for value, _ in numbers(text)] == values


def invented(rewriting: str, review: str) -> list[str]:
    return [fact.text for sentence in facts(rewriting, review) for fact in sentence if not fact.grounded]


def test_facts_of_a_rewriting():
    review = "Went to sea world on sat in march, 50+ rides for $20. brandon was our guide. bought an i5 macbook pro."
    grounded = (
        "Last Saturday in March I went to Sea World with its fifty rides. I paid $20, and Brandon guided us. "
        "However, my MacBook Pro with the i5 was heavy. I've had fun."
    )
    assert invented(grounded, review) == []
    assert invented("On Friday I met Alan at Sea World. It has 75 rides. We drove to Boston.", review) == [
        "Friday",
        "Alan",
        "75",
        "Boston",
    ]


def test_numbers_may_be_written_in_another_way():
    assert invented("I waited twelve minutes.", "waited a dozen min") == []
    assert invented("I bought it in 2018.", "from '18, still fine") == []
    assert invented("I rate it 5 of 10.", "i would give this 5 stars of 10") == []
