"""Light English stemming: enough to see that "batteries", "Battery" and "battery's" are one word.

Both sides of every comparison are stemmed, so a stem need not be a word; it must only be the same for a word's
inflections (plural, past, -ing) and for few other words. Rules are after Porter's first step (Porter 1980). Snowball's
stemmer also joins derived words, such as "reasonable" and "reason", which makes opinion words of ordinary words
(docs/decisions.md, 12).
"""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache

_WORD = re.compile(r"\d+(?:[.,:]\d+)*|[^\W\d_]+(?:'[^\W\d_]+)?|\d+")
MAX_WORD = 64
"""Characters of a word. Longer runs of letters are no words: they are not taken apart, and no cache holds them."""
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
    """The words and numbers of a text in order, case, accents and apostrophes folded: ``["don't", "7:30", "cafe"]``."""
    return [match.group() for match in _WORD.finditer(fold(text))]


def fold(text: str) -> str:
    """A text without case, accents and typographic variants. Its length may differ from the text's."""
    text = text.replace("’", "'").replace("‘", "'")
    if text.isascii():  # most of it, and nothing to take apart: a third of a check's time
        return text.casefold()
    # Marks are taken out before, too: the time to put a run of them in order grows with its square.
    text = unicodedata.normalize("NFKD", _without_marks(text))
    return _without_marks(text).casefold()


def _without_marks(text: str) -> str:
    return "".join(character for character in text if not unicodedata.combining(character))


def stem(word: str) -> str:
    """Stem of one folded word; what is longer than a word can be (``MAX_WORD``) is its own."""
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
    """Stems of a text's words in order."""
    return [stem(word) for word in words(text)]
