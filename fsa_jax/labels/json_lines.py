"""JSON lines: one sentence with its labels per line, and the list of such objects that JSON files have.

::

    {"id": "7", "text": "The bread was good.", "aspects": [{"target": "bread", "category": "food", "polarity":
     "positive", "from": 4, "to": 9, "opinion_words": ["good"]}]}

Several names are known for each key (``TEXT``, ``LABELS`` …), also those of the FSA datasets and of PyABSA.
docs/labels.md describes the schema.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from fsa_base import untrusted_json
from fsa_jax.labels.raw import NULL, Notes, RawLabel, RawSentence, UnusableLabels, lines_of

ID = ("id", "ID", "sentence_id")
TEXT = ("text", "sentence", "Text", "review")
LABELS = ("aspects", "labels", "opinions")
TARGET = ("target", "aspect", "term", "aspect_term")
CATEGORY = ("category", "aspect_category")
POLARITY = ("polarity", "sentiment")
START = ("from", "start")
END = ("to", "end")
OPINIONS = ("opinion_words", "opinion", "opinion_term")
_LARGEST_OFFSET = 10**9


def read(text: str, notes: Notes) -> Iterator[RawSentence]:
    """Reads JSON lines, or one JSON list.

    Raises:
      UnusableLabels: a line is not JSON, or not a sentence with labels.
    """
    del notes
    rows = _list_items(text) if text.lstrip()[:1] == "[" else _lines(text)
    for line, row in rows:
        yield _sentence(row, line)


def _lines(text: str) -> Iterator[tuple[int, Any]]:
    for number, line in lines_of(text):
        if line.strip():
            yield number, _parsed(line, number)


def _parsed(text: str, line: int) -> Any:
    try:
        return untrusted_json.parse(text)
    except untrusted_json.UntrustedJsonError as error:
        raise UnusableLabels(line, "a JSON object for each sentence", str(error)) from None


def _list_items(text: str) -> Iterator[tuple[int, Any]]:
    decoder = json.JSONDecoder()
    at = _skip(text, text.index("[") + 1)
    line, counted = 1, 0
    while text[at : at + 1] != "]":
        line, counted = line + text.count("\n", counted, at), at
        try:
            _, end = decoder.raw_decode(text, at)
        except RecursionError:
            raise UnusableLabels(line, "a JSON list of sentences", "JSON that is nested too deep") from None
        except ValueError as error:  # also numbers with too many digits
            found_line = error.lineno if isinstance(error, json.JSONDecodeError) else line
            found = error.msg if isinstance(error, json.JSONDecodeError) else "a number with too many digits"
            raise UnusableLabels(found_line, "a JSON list of sentences", found) from None
        yield line, _parsed(text[at:end], line)
        at = _skip(text, end)
        if text[at : at + 1] == ",":
            at = _skip(text, at + 1)
        elif text[at : at + 1] != "]":
            line += text.count("\n", counted, at)
            raise UnusableLabels(line, "a comma or the end of the JSON list", repr(text[at : at + 20]) or "nothing")
    if text[at + 1 :].strip():
        line += text.count("\n", counted, at)
        raise UnusableLabels(line, "nothing after the JSON list", repr(text[at + 1 :].strip()[:20]))


def _skip(text: str, at: int) -> int:
    while at < len(text) and text[at] in " \t\r\n":
        at += 1
    return at


def _sentence(row: Any, line: int) -> RawSentence:
    if not isinstance(row, dict):
        raise UnusableLabels(line, "a JSON object for each sentence", repr(row)[:80])
    key, text = _value(row, TEXT, line)
    if not isinstance(text, str):
        raise UnusableLabels(line, f"a text as {key!r}", repr(text)[:80])
    _, identity = _optional(row, ID)
    if identity is not None and (isinstance(identity, bool) or not isinstance(identity, str | int)):
        raise UnusableLabels(line, "an id, a number or a text", repr(identity)[:80])
    name, labels = _optional(row, LABELS)
    id_text = None if identity is None else str(identity)
    if labels is None:
        return RawSentence(line, text, (), id_text, f"sentences without {LABELS[0]!r}")
    if not isinstance(labels, list):
        raise UnusableLabels(line, f"a list as {name!r}", repr(labels)[:80])
    return RawSentence(line, text, tuple(_label(label, line) for label in labels), id_text)


def _label(row: Any, line: int) -> RawLabel:
    if not isinstance(row, dict):
        raise UnusableLabels(line, "a JSON object for each label", repr(row)[:80])
    _, polarity = _value(row, POLARITY, line)
    if isinstance(polarity, bool) or not isinstance(polarity, str | int):
        raise UnusableLabels(line, "a polarity such as 'positive'", repr(polarity)[:80])
    target_key, target = _optional(row, TARGET)
    category_key, category = _optional(row, CATEGORY)
    for name, value in ((target_key, target), (category_key, category)):
        if not (value is None or isinstance(value, str)):
            raise UnusableLabels(line, f"a text or null as {name!r}", repr(value)[:80])
    if target_key is None and category in (None, NULL):
        raise UnusableLabels(line, f"{TARGET[0]!r} or {CATEGORY[0]!r} in each label", f"only {', '.join(row)[:80]}")
    has_opinions, opinions = _optional(row, OPINIONS)
    offsets = (_offset(_optional(row, names)[1], names[0], line) for names in (START, END))
    start, end = offsets
    return RawLabel(
        line,
        str(polarity),
        has_target=target_key is not None,
        target=target,
        category=category,
        start=start,
        end=end,
        opinions=None if has_opinions is None else _opinions(opinions, line),
    )


def _offset(value: Any, name: str, line: int) -> int | None:
    if value is None or (type(value) is int and 0 <= value <= _LARGEST_OFFSET):
        return value
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) < 10:
        return int(value)
    raise UnusableLabels(line, f"a character offset as {name!r}, 0 or more", repr(value)[:80])


def _opinions(value: Any, line: int) -> tuple[str, ...]:
    parts = [value] if isinstance(value, str) else [] if value is None else value
    if isinstance(parts, list):
        words = [part.get("opinion") if isinstance(part, dict) else part for part in parts]
        kept = [word for word in words if isinstance(word, str)]
        if len(kept) == len(words):
            return tuple(kept)
    raise UnusableLabels(line, "opinion words as a list of texts, a text or null", repr(value)[:80])


def _optional(row: Mapping[str, Any], names: tuple[str, ...]) -> tuple[str | None, Any]:
    name = next((name for name in names if name in row), None)
    return name, None if name is None else row[name]


def _value(row: Mapping[str, Any], names: tuple[str, ...], line: int) -> tuple[str, Any]:
    name, value = _optional(row, names)
    if name is None:
        raise UnusableLabels(line, f"the key {names[0]!r}", f"only {', '.join(row)[:80] or 'an empty object'}")
    return name, value
