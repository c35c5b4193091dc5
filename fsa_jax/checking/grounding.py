"""Looks for an opinion target in its review: found exactly, after normalisation, with another spelling, or not at all.

The paper's human evaluation counts targets that are not in the review as hallucination (arXiv 2412.18552, section
4.2). Its exact procedure is not public, so this rule is our own. It was checked against 60 rows that were labelled by
hand (tests/testdata/grounding_labels.json, docs/checking.md).
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Literal

import numpy as np

from fsa_jax.text.stem import MAX_WORD, fold, stem, words

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
