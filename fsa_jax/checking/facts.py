"""Facts of a rewriting that must occur in its review: numbers, names, days and months.

A rewriting may use other words for opinions, but must not invent facts. Some facts can be checked without a model:
numbers (in digits or words), names (capitalised words inside a sentence), weekdays and months. Many reviews are written
in lower case only, so names are compared without case.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

from fsa_jax.checking.grounding import ReviewWords, find_word, review_words
from fsa_jax.text.stem import fold, words

_UNITS = {
    word: value
    for value, word in enumerate(
        words(
            "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen "
            "seventeen eighteen nineteen"
        )
    )
}
_TENS = {
    word: 10 * value
    for value, word in enumerate(words("twenty thirty forty fifty sixty seventy eighty ninety"), start=2)
}
_COUNTED = frozenset(words("one two three"))
"""When spelt out, these are not facts: "one" is often a pronoun, and writers count ("there are two drawbacks")."""
_GROUPS = {"dozen": 12, "hundred": 100, "thousand": 1000, "million": 1_000_000}
_TWO = frozenset(words("couple pair both twice double two"))
_THREE = frozenset(words("triple thrice"))
_TOKEN = re.compile(r"\d+(?:,\d{3})+(?:\.\d+)?|\d{1,2}:\d{2}|\d+(?:\.\d+)?|[^\W\d_]+")
_SENTENCE = re.compile(r"[^.!?\n]+(?:[.!?](?=\S)[^.!?\n]+)*[.!?]*")
_CALENDAR = frozenset(
    words(
        "monday tuesday wednesday thursday friday saturday sunday january february march april june july august "
        "september october november december"
    )
)
# Capitalised words that do not name one particular thing.
_NO_NAMES = frozenset(
    words(
        "i i'm i've i'd i'll ok okay tv tvs usb cd dvd pc wifi wi fi diy bbq atm faq us usa united states am pm god "
        "american french english italian mexican chinese japanese korean thai indian asian greek mediterranean "
        "european southern western eastern northern internet led lcd hd gps bluetooth christmas overall however "
        "although despite moreover furthermore additionally after before this that the a an it in on review "
        "rating star stars mr mrs ms dr sir madam"
    )
)
_OPENING_MARKS = frozenset("\"'“‘(*- ")
_NAME = re.compile(r"\b(?:[A-Z][\w'’&.-]*[\w])(?:\s+(?:&\s+)?[A-Z][\w'’&.-]*[\w])*")


@dataclass(frozen=True)
class Fact:
    """One fact that can be looked up: its kind, its spelling in the rewriting, and whether the review has it."""

    kind: Literal["number", "name", "date"]
    text: str
    grounded: bool


def sentences(text: str) -> list[str]:
    """Sentences of a rewriting in order; a full stop inside a number or a name does not end one."""
    return [piece.strip() for piece in _SENTENCE.findall(text) if piece.strip()]


def facts(rewriting: str, review: str) -> list[list[Fact]]:
    """The facts of each sentence of a rewriting; each fact tells whether it is in the review."""
    known = _known_numbers(review)
    return [[*_numbers(sentence, known), *_names(sentence, review)] for sentence in sentences(rewriting)]


def numbers(text: str, ratings: bool = False) -> list[tuple[float, str]]:
    """Numbers of a text, digits or words, with their spelling: ``"over fifty for $7.50"`` → 50 and 7.5.

    A clock time counts in hours (7:30 → 7.5). "one" to "three" are left out when spelt out. Ratings ("five stars",
    "five-star") are left out unless ``ratings`` is True: teachers take them from the star rating, not from the text.
    """
    tokens = _TOKEN.findall(fold(text).replace("-", " "))
    found: list[tuple[float, str]] = []
    value: float | None = None
    spelling: list[str] = []

    def close() -> None:
        nonlocal value
        if value is not None and not (len(spelling) == 1 and spelling[0] in _COUNTED):
            found.append((value, " ".join(spelling)))
        value = None
        spelling.clear()

    for token in tokens:
        if token[0].isdecimal():
            close()
            value = _digits(token)
            spelling.append(token)
        elif token in _GROUPS:
            value = (1 if value is None else value) * _GROUPS[token]
            spelling.append(token)
        elif token in _TENS or token in _UNITS:
            number = _TENS.get(token, _UNITS.get(token, 0))
            joins = bool(spelling) and (spelling[-1] in _GROUPS or (spelling[-1] in _TENS and 0 < number < 10))
            if not joins:
                close()
            value = (value or 0) + number
            spelling.append(token)
        else:
            if token in ("star", "stars") and not ratings:
                value = None
            close()
    close()
    return found


def _digits(token: str) -> float:
    if ":" in token:
        hours, minutes = token.split(":")
        return int(hours) + int(minutes) / 60
    return float(token.replace(",", ""))


@lru_cache(maxsize=64)
def _known_numbers(review: str) -> frozenset[float]:
    known = {value for value, _ in numbers(review, ratings=True)}
    # "1 1/2 hours", "a couple" and "twice" state a number in another way.
    for said, value in ((_TWO, 2.0), (_THREE, 3.0)):
        if not said.isdisjoint(review_words(review).runs):
            known.add(value)
    return frozenset(known)


def _numbers(sentence: str, known: frozenset[float]) -> list[Fact]:
    return [
        # "2018" in the rewriting may be "'18" in the review: the last two digits of a year are enough.
        Fact("number", spelling, value in known or (1900 < value < 2100 and value % 100 in known))
        for value, spelling in numbers(sentence)
    ]


def _names(sentence: str, review: str) -> list[Fact]:
    prepared = review_words(review)
    found = []
    for match in _NAME.finditer(sentence):
        written = re.findall(r"[^\W_]+(?:['’][^\W\d_]+)?", match.group())
        before = match.start()
        while before > 0 and sentence[before - 1] in _OPENING_MARKS:
            before -= 1
        starts = before == 0 or sentence[before - 1] == ":"
        # The first word of a sentence is capitalised even if it is not a name.
        parts = [part for part in written if _is_name(fold(part), only_dates=starts)]
        if not parts:
            continue
        folded = [fold(part).removesuffix("'s") for part in parts]
        held = [_held(part, prepared) for part in folded]
        kind = "date" if any(part in _CALENDAR for part in folded) else "name"
        found.append(Fact(kind, " ".join(parts), sum(held) * 2 >= len(held)))
    return found


def _is_name(part: str, only_dates: bool) -> bool:
    if only_dates:
        return part in _CALENDAR
    part = part.removesuffix("'s")
    return part not in _NO_NAMES and len(part) > 1 and not part.isdigit()


def _held(part: str, prepared: ReviewWords) -> bool:
    if find_word(part, prepared) is not None or part in prepared.text:
        return True
    if part in _CALENDAR:
        return part[:3] in prepared.runs
    # "Bostonian" is grounded by "Boston".
    return len(part) > 5 and part[:5] in prepared.beginnings
