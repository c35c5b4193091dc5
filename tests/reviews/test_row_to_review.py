"""Columns of known dumps, star ratings, ids, domains and filters."""

from __future__ import annotations

import json
import socket

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fsa_base.errors import SettingError
from fsa_jax.reviews.domains import DEFAULT_RULES, DomainRules, read_catalog
from fsa_jax.reviews.dump_rows import BadRow
from fsa_jax.reviews.filters import Filters
from fsa_jax.reviews.row_to_review import Fields, Parsed, category_names, clean_text, parse_review

PLAIN = Fields({})


def parsed(row, fields=PLAIN) -> Parsed:
    found = parse_review(row, fields)
    assert isinstance(found, Parsed)
    return found


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        ({"review_id": "y1", "text": "Good", "stars": 4.0, "business_id": "b"}, ("y1", "Good", 4.0, "b")),
        ({"reviewerID": "A", "asin": "B0", "overall": 5.0, "reviewText": "Good"}, (None, "Good", 5.0, "B0")),
        ({"rating": 2.0, "title": "t", "text": "Good", "asin": "B1", "parent_asin": "B0"}, (None, "Good", 2.0, "B0")),
        ({"ID": 17, "Text": "Good", "Overall": 3.5}, ("17", "Good", 3.5, None)),
        ({"id": 0, "text": b"Good", "star_rating": "4 stars"}, ("0", "Good", 4.0, None)),
        ({"text": "Good", "label": 4}, (None, "Good", None, None)),
    ],
)
def test_known_dumps(row, expected):
    found = parsed(row)
    review = found.review
    assert (review.text, review.stars, found.item) == expected[1:]
    assert review.id == expected[0] if expected[0] else review.id.startswith("t")


def test_named_columns_reach_into_objects_and_stars_may_count_from_zero():
    fields = Fields({"text": "data.text", "stars": "label", "item": "no.such"}, stars_offset=1)
    found = parsed({"data": {"text": "Good"}, "label": 4}, fields)
    assert (found.review.text, found.review.stars, found.item) == ("Good", 5.0, None)


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({"stars": 3}, "no text"),
        ({"text": None}, "no text"),
        ({"text": "  \n"}, "no text"),
        ({"text": "!!! :)"}, "no text"),
        ({"text": 12}, "no text"),
        ({"text": "Good", "stars": "many"}, "stars that are no number"),
        ({"text": "Good", "stars": float("nan")}, "stars that are no number"),
        ({"text": "Good", "stars": True}, "stars that are no number"),
        ({"text": "Good", "stars": 55}, "stars outside 0 to 5"),
    ],
)
def test_unusable_rows_say_why(row, reason):
    assert parse_review(row, PLAIN) == BadRow(reason)


def test_the_same_text_has_the_same_id_wherever_it_comes_from():
    assert parsed({"text": "Good "}).review.id == parsed({"reviewText": "Good", "id": ""}).review.id


@given(st.text(alphabet=st.characters(), max_size=50))
def test_cleaned_text_is_always_utf8(text):
    cleaned, _ = clean_text(text + "\ud83d\x00")
    assert cleaned.encode("utf-8").decode("utf-8") == cleaned
    assert "\x00" not in cleaned


def test_categories_in_all_formats():
    assert category_names("Restaurants, Pizza") == ("Restaurants", "Pizza")
    assert category_names([["Electronics", "Laptops"], ["Computers"]]) == ("Electronics", "Laptops", "Computers")
    assert category_names(None) == category_names(7) == ()


def test_domains_by_name_pattern_and_catalog(tmp_path):
    rules = DomainRules({**DEFAULT_RULES, "hotels": ("re:hotel|motel",)})
    assert rules.domain(["Mexican", "RESTAURANTS"]) == "restaurants"
    assert rules.domain(["Boutique Hotels"]) == "hotels"
    assert rules.domain(["Dentists"]) is None
    catalog = tmp_path / "business.jsonl"
    lines = [
        {"business_id": "b1", "categories": "Pizza, Restaurants"},
        {"parent_asin": "B0", "main_category": "Computers", "categories": []},
        {"asin": "B1", "category": ["Toys"]},
        {"name": "no id"},
    ]
    catalog.write_text("".join(json.dumps(line) + "\n" for line in lines) + "{broken\n")
    domains, counts = read_catalog(catalog, rules)
    assert domains == {"b1": "restaurants", "B0": "computers"}
    assert counts["item of no wanted domain"] == counts["no item id"] == counts["broken JSON"] == 1
    with pytest.raises(SettingError):
        DomainRules({"x": ("re:(",)})


def test_language_is_detected_offline(monkeypatch):
    def no_network(*_):
        raise AssertionError("the language filter must not touch the network")

    monkeypatch.setattr(socket.socket, "connect", no_network)
    monkeypatch.setattr(socket, "getaddrinfo", no_network)
    filters = Filters(language="en")
    assert filters.refuse("The pizza was good and the staff were friendly.") is None
    assert filters.refuse("Das Essen war hervorragend und die Bedienung sehr freundlich.") == "language is not en"
    assert filters.refuse("La comida estaba muy rica y el servicio fue excelente.") == "language is not en"
    assert Filters(language=None).refuse("Das Essen war hervorragend und freundlich.") is None
    # Slang and misspelling must pass: reviews are full of them.
    assert filters.refuse("omg sooo yummyyy def comin back 10/10 wud recomend!!") is None


def test_length_limits():
    assert Filters().refuse("Good") == "shorter than 20 characters"
    assert Filters().refuse("word " * 10_000) == "longer than 4000 characters"
    with pytest.raises(SettingError):
        Filters(min_characters=10, max_characters=5)
