"""Untrusted JSON: values that would cause errors later are refused at once, with a reason that can be counted."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fsa_base.untrusted_json import MAX_DEPTH, UntrustedJsonError, parse, parse_literal

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=30,
)


def reason(text: str | bytes, function: Any = parse) -> str:
    with pytest.raises(UntrustedJsonError) as caught:
        function(text)
    return caught.value.reason


@given(VALUES)
def test_what_json_writes_is_read_back(value: Any) -> None:
    for ascii_only in (True, False):
        text = json.dumps(value, ensure_ascii=ascii_only)
        assert parse(text) == parse(text.encode()) == value


@given(VALUES)
def test_what_python_prints_is_read_back(value: Any) -> None:
    assert parse_literal(repr(value).replace("inf", "1e999")) == value


@pytest.mark.parametrize("bracket", ["[", '{"a":'])
def test_nesting_is_limited_at_any_call_depth(bracket: str) -> None:
    def nested(depth: int) -> str:
        return bracket * depth + "1" + ("]" if bracket == "[" else "}") * depth

    assert parse(nested(MAX_DEPTH))
    for depth in (MAX_DEPTH + 1, 900, 100_000):
        assert reason(nested(depth)) == "JSON nested more than 100 deep"
        with pytest.raises(UntrustedJsonError):
            parse_literal(nested(depth))


def test_numbers_that_python_would_not_print() -> None:
    assert parse("1" + "0" * 4000) == 10**4000
    assert reason("1" * 6000) == "a number of over 4,300 digits"
    assert reason("0x" + "f" * 6000, parse_literal) == "a number of over 4,300 digits"
    assert reason("{'a': " + "1" * 6000 + "}", parse_literal) == "broken JSON"


@pytest.mark.parametrize("text", [r'"\ud800"', r'{"a": ["\udfff x"]}', r'{"\uD83D": 1}', '"\ud800"'])
def test_half_a_surrogate_pair_is_refused_or_left_to_the_caller(text: str) -> None:
    assert reason(text) == "text with half a surrogate pair"
    assert parse(text, lone_surrogates=True) == json.loads(text)


def test_complete_surrogate_pairs_are_accepted() -> None:
    assert parse(r'["\ud83d\ude00"]') == ["😀"]


@pytest.mark.parametrize("text", ["", "{", "nul", "[1,]", "{'a': 1}", b"\xff", b'"\xed\xa0\x80"'])
def test_the_reason_does_not_contain_the_text(text: str | bytes) -> None:
    assert reason(text) in ("broken JSON", "text that is not UTF-8")


@pytest.mark.parametrize(
    "text",
    [
        "{'a': 1, []: 1}",
        "{1: 2}",
        "{1, 2}",
        "1+2j",
        "...",
        "b'a'",
        "__import__('os')",
        "{'a'",
        "-" * 100_000 + "1",
        "1if 1",
    ],
)
def test_literals_without_an_equivalent_in_json_are_refused(text: str) -> None:
    assert reason(text, parse_literal) == "broken JSON"


def test_a_long_literal_is_refused_before_it_fills_the_memory() -> None:
    assert "200,000" in reason("[" + "[]," * 1_000_000 + "]", parse_literal)
