"""Looks for the targets of an analysis, and for the facts of a rewriting, in the review.

A target is found exactly, after normalisation, with another spelling, or not at all. The paper's human evaluation
counts targets that are not in the review as hallucination (arXiv 2412.18552, section 4.2). Its exact procedure is not
public, so this rule is our own. It was checked against 60 rows that were labelled by hand
(tests/testdata/grounding_labels.json, docs/checking.md).

A rewriting may use other words for opinions, but must not invent facts. Some facts can be checked without a model:
numbers (in digits or words), names (capitalised words inside a sentence), weekdays and months. Many reviews are written
in lower case only, so names are compared without case.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Literal

import numpy as np

from fsa_jax.text.words import MAX_WORD, fold, stem, words

Kind = Literal["exact", "normalised", "fuzzy", "absent"]

FUZZY_RATIO = 0.84
"""Words of four letters or more with at least this similarity count as spellings of one word: one wrong letter in five
or six."""

_BUCKETS = 32
"""Number of letter classes (character code modulo this number) that are counted to preselect similar spellings."""
_MAX_CANDIDATES = 20
"""Largest number of spellings that a word is compared with; real reviews rarely have more than three candidates."""

SURE_SHARE = 0.6
"""If this share of its words is found, a target is grounded even without its head word ("monitor warranty
policies")."""

_FUNCTION_WORDS = frozenset(
    words(
        "a all an and any are as at be both but by can did do does for from had has have he her his how i if in into "
        "is it its my no not of on one or our out over she so some such than that the their them there these they this "
        "those to up was we were what when where which who will with would you your"
    )
)
# Words that name a property of a thing, not the thing itself: "pizza quality" is grounded by "pizza".
_LIGHT_WORDS = frozenset(
    map(
        stem,
        words(
            "ability activity aspect capability characteristic condition design detail element experience facility "
            "feature function functionality general item level matter method nature option overall part performance "
            "process product purchase quality selection situation specific speed system technology thing time type use "
            "user reviewer value variety"
        ),
    )
)
_HEAD_ENDS = frozenset(words("about after at before by during for from in of on that to when where which while with"))
# Short forms are listed, because a general rule for prefixes would accept "rest" for "restaurant".
_SHORT_FORMS = tuple(
    frozenset(map(stem, words(pair)))
    for pair in re.split(
        ",",
        "app application,app appetizer,batt battery,bbq barbecue,cam camera,comp computer,fave favorite,fridge "
        "refrigerator,info information,kb keyboard,mac macbook,mic microphone,mobo motherboard,pic picture,pic photo,"
        "resto restaurant,spec specification,temp temperature,tv television,veg vegetable,veggie vegetable,vid video",
    )
)
_SLOT = re.compile(r"\s*[\[<{][^\]>}]*[\]>}]\s*")


@dataclass(frozen=True)
class Grounding:
    """Whether and how a target occurs in a review.

    Args:
      kind: ``exact``: found as written, ignoring case; ``normalised``: found with another inflection, word order or
        joined spelling; ``fuzzy``: found with a misspelling or abbreviation; ``absent``: not found.
      score: share of the target's content words that occur in the review, 0 to 1.
    """

    kind: Kind
    score: float

    @property
    def grounded(self) -> bool:
        return self.kind != "absent"


@dataclass(frozen=True)
class ReviewWords:
    """The words of a review, prepared for many look-ups."""

    text: str
    """The review, case-folded."""
    folded: str
    """Its words, joined by single spaces."""
    runs: frozenset[str]
    """Its maximal sequences of letters, digits and underscores."""
    stems: frozenset[str]
    spellings: tuple[str, ...]
    """Words of four letters or more and their stems, sorted; a misspelt word is compared with these."""
    joined: frozenset[str]
    """Pairs of neighbouring words, joined, so that "touchpad" is found in "touch pad"."""

    @cached_property
    def beginnings(self) -> frozenset[str]:
        """The first five letters of the spellings."""
        return frozenset(spelling[:5] for spelling in self.spellings)

    @cached_property
    def letters(self) -> np.ndarray:
        """How often a spelling has each letter, shape [spellings, _BUCKETS]."""
        return _letters(self.spellings)


@lru_cache(maxsize=64)
def review_words(review: str) -> ReviewWords:
    """Prepares a review. The last few results are cached, because a review has several targets and rewritings."""
    found = words(review)
    stemmed = [stem(word) for word in found]
    text = fold(review)
    return ReviewWords(
        text=text,
        folded=" ".join(found),
        runs=frozenset(re.findall(r"\w+", text)),
        stems=frozenset(stemmed),
        spellings=tuple(sorted({word for word in (*found, *stemmed) if 4 <= len(word) <= MAX_WORD})),
        joined=frozenset(first + second for first, second in zip(found, stemmed[1:], strict=False)),
    )


def ground(target: str, review: str, threshold: float = 0.5) -> Grounding:
    """Looks for a target in a review.

    Args:
      target: opinion target as the teacher wrote it.
      review: the review's text.
      threshold: share of content words that must be found. The head word must be one of them, unless at least
        SURE_SHARE of the words are found.

    A target in brackets is a slot of the prompt's template that the teacher did not fill, so it is ``absent``.
    """
    if _SLOT.fullmatch(target):
        return Grounding("absent", 0.0)
    prepared = review_words(review)
    target_words = words(target)
    if not target_words:
        return Grounding("absent", 0.0)
    if f" {' '.join(target_words)} " in f" {prepared.folded} ":
        return Grounding("exact", 1.0)
    content = _content(target_words)
    how = {word: find_word(word, prepared) for word in content}
    found = [word for word in content if how[word] is not None]
    score = len(found) / len(content)
    if score < threshold or (score < SURE_SHARE and how[_head(target_words, content)] is None):
        return Grounding("absent", score)
    return Grounding("fuzzy" if "fuzzy" in how.values() else "normalised", score)


def _content(target_words: list[str]) -> list[str]:
    content = [word for word in target_words if word not in _FUNCTION_WORDS]
    heavy = [word for word in content if stem(word) not in _LIGHT_WORDS]
    return heavy or content or target_words


def _head(target_words: list[str], content: list[str]) -> str:
    """The head word, which names the target: the last content word before any "of", "in", "with" …"""
    head, known = None, frozenset(content)
    for word in target_words:
        if word in _HEAD_ENDS and head is not None:
            break
        if word in known:
            head = word
    return head or content[-1]


def find_word(word: str, review: ReviewWords) -> Literal["normalised", "fuzzy"] | None:
    """How a case-folded word occurs in a review.

    Returns:
      ``normalised`` if it is inflected or joined differently, ``fuzzy`` if it is misspelt or abbreviated, else None.
    """
    stemmed = stem(word)
    if stemmed in review.stems or word in review.joined or stemmed in review.joined:
        return "normalised"
    if len(word) > MAX_WORD:
        return None
    if any(first in review.stems and stem(word[len(first) :]) in review.stems for first in _prefixes(word)):
        return "normalised"
    if any(stemmed in pair and not review.stems.isdisjoint(pair) for pair in _SHORT_FORMS):
        return "fuzzy"
    if len(word) < 4 or word[0].isdigit():
        return None
    return "fuzzy" if difflib.get_close_matches(word, _candidates(word, review), 1, FUZZY_RATIO) else None


def _candidates(word: str, review: ReviewWords) -> list[str]:
    """Spellings that share enough letters with a word to reach FUZZY_RATIO; those that share most come first."""
    shared = np.minimum(review.letters, _letters((word,))).sum(1)
    lengths = review.letters.sum(1) + len(word)
    found = np.flatnonzero(2 * shared >= FUZZY_RATIO * lengths - 1e-9)
    order = np.argsort(-shared[found] / lengths[found], kind="stable")[:_MAX_CANDIDATES]
    return [review.spellings[i] for i in found[order]]


def _letters(spellings: Sequence[str]) -> np.ndarray:
    codes = np.frombuffer("".join(spellings).encode("utf-32-le", "surrogatepass"), np.uint32) % _BUCKETS
    rows = np.repeat(np.arange(len(spellings)), [len(spelling) for spelling in spellings])
    counts = np.bincount(rows * _BUCKETS + codes, minlength=len(spellings) * _BUCKETS)
    return counts.reshape(len(spellings), _BUCKETS)


def _prefixes(word: str) -> list[str]:
    return [word[:end] for end in range(3, len(word) - 2)]


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
