"""Light English stemming, which recognises that "batteries", "Battery" and "battery's" are the same word.

Both sides of a comparison are stemmed, so a stem need not be a word. It must only be the same for all inflections of a
word (plural, past, -ing), and for few other words. The rules follow Porter's first step (Porter 1980).
"""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache

_WORD = re.compile(r"\d+(?:[.,:]\d+)*|[^\W\d_]+(?:'[^\W\d_]+)?|\d+")
MAX_WORD = 64
"""Largest number of characters of a word. Longer runs of letters are not words; they are neither stemmed nor cached."""
_IRREGULAR = {
    "ate": "eat",
    "bought": "buy",
    "broke": "break",
    "broken": "break",
    "came": "come",
    "children": "child",
    "did": "do",
    "done": "do",
    "drank": "drink",
    "feet": "foot",
    "felt": "feel",
    "gave": "give",
    "given": "give",
    "gone": "go",
    "got": "get",
    "held": "hold",
    "kept": "keep",
    "knives": "knife",
    "made": "make",
    "men": "man",
    "mice": "mouse",
    "paid": "pay",
    "people": "person",
    "said": "say",
    "sat": "sit",
    "sent": "send",
    "sold": "sell",
    "spent": "spend",
    "stood": "stand",
    "taken": "take",
    "thought": "think",
    "told": "tell",
    "took": "take",
    "went": "go",
    "women": "woman",
    "wrote": "write",
}


def words(text: str) -> list[str]:
    """The words and numbers of a text in order, without case, accents and apostrophe variants: ``["don't", "7:30",
    "cafe"]``."""
    return [match.group() for match in _WORD.finditer(fold(text))]


def fold(text: str) -> str:
    """Normalises a text: without case, accents and typographic variants. The length may change."""
    text = text.replace("’", "'").replace("‘", "'")
    if text.isascii():  # true for most text, and saves a third of the time of a check
        return text.casefold()
    # Combining marks are removed before too, because NFKD sorts a run of them in quadratic time.
    text = unicodedata.normalize("NFKD", _without_marks(text))
    return _without_marks(text).casefold()


def _without_marks(text: str) -> str:
    return "".join(character for character in text if not unicodedata.combining(character))


def stem(word: str) -> str:
    """The stem of one folded word; a word longer than ``MAX_WORD`` is returned unchanged."""
    return _stem(word) if len(word) <= MAX_WORD else word


@lru_cache(maxsize=100_000)
def _stem(word: str) -> str:
    word = word.removesuffix("'s").removesuffix("'")
    if word in _IRREGULAR:
        return _IRREGULAR[word]
    if len(word) <= 3 or word[0].isdigit():
        return word
    if word.endswith("sses"):
        word = word[:-2]
    elif word.endswith("ies"):
        word = word[:-3] + "y" if len(word) > 4 else word[:-1]
    elif word.endswith(("ches", "shes", "xes", "zes")):
        word = word[:-2]
    elif word.endswith("s") and not word.endswith(("ss", "us", "is")):
        word = word[:-1]
    for suffix in ("ing", "ed"):
        base = word.removesuffix(suffix)
        if base != word and len(base) >= 3 and re.search("[aeiouy]", base):
            word = base[:-1] if base[-1] == base[-2] and base[-1] not in "lsz" else base
            break
    if word.endswith("e") and len(word) > 3:
        word = word[:-1]
    if word.endswith("y") and len(word) > 3:
        word = word[:-1] + "i"
    return word


def stems(text: str) -> list[str]:
    """The stems of a text's words, in order."""
    return [stem(word) for word in words(text)]
