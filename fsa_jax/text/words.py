"""The words of a text: normalised, hashed, stemmed, and which of them are opinion words.

The stemmer is light: it recognises that "batteries", "Battery" and "battery's" are the same word. Both sides of a
comparison are stemmed, so a stem need not be a word. It must only be the same for all inflections of a word (plural,
past, -ing), and for few other words. Its rules follow Porter's first step (Porter 1980). Snowball's stemmer also
joins derived words, such as "reasonable" and "reason", which would turn ordinary words into opinion words
(docs/decisions.md, 12).

Opinion words come from a list (``opinion_words.txt``). They show whether a text states its sentiment explicitly, and
whether it is positive or negative. In the labelled FSA data a sentiment is implicit if it has no opinion
words; here a sentence is implicit if none of its words is in the list. docs/sampling.md says how well this agrees with
the labels.
"""

from __future__ import annotations

import hashlib
import re
import unicodedata
from functools import cache, lru_cache
from importlib import resources

MAX_FOLDED_CHARACTERS = 4000
"""Longer texts are normalised in pieces."""

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


def normalise(text: str) -> str:
    """The words of a text in one case and one Unicode form; copies of a review give the same words."""
    pieces = [text]
    if len(text) > MAX_FOLDED_CHARACTERS:
        # Python sorts combining marks in quadratic time, and a text may consist of them.
        pieces = [text[start : start + 1000] for start in range(0, len(text), 1000)]
    folded = "".join(unicodedata.normalize("NFKC", piece) for piece in pieces)
    return " ".join(re.findall(r"\w+", folded.casefold()))


def hash64(text: str, seed: int = 0) -> int:
    """Seeded 64-bit hash of the unchanged text."""
    key = (seed % 2**64).to_bytes(8, "little")
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8, key=key).digest(), "little")


def priority(text: str, seed: int) -> int:
    """Seeded 64-bit hash of a text's normalised words."""
    return hash64(normalise(text), seed)


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


NEGATION_REACH = 3
"""A negation inverts opinion words among this many words after it ("not at all good")."""

_SENTENCE = re.compile(r"[^.!?\n;]+")
_MIN_WORDS = 3
"""Shorter sentences ("So.", "5 stars") are ignored, because they do not show how a reviewer writes."""


@cache
def opinion_words() -> dict[str, frozenset[str]]:
    """The stems of the word list by section: ``positive``, ``negative``, ``negation``."""
    sections: dict[str, set[str]] = {}
    current: set[str] = set()
    for line in resources.files("fsa_jax.text").joinpath("opinion_words.txt").read_text("utf-8").splitlines():
        if line.startswith("["):
            current = sections.setdefault(line.strip("[]"), set())
        elif not line.startswith("#"):
            current.update(map(stem, line.split()))
    return {name: frozenset(entries) for name, entries in sections.items()}


def opinions(text: str) -> list[int]:
    """The opinion words of a text in order, as numbers: +1 for a positive one, -1 for a negative one."""
    lists = opinion_words()
    found, negated_until = [], -1
    for position, word in enumerate(stems(text)):
        if word in lists["negation"] or word.endswith("n't"):
            negated_until = position + NEGATION_REACH
        lean = (word in lists["positive"]) - (word in lists["negative"])
        if lean:
            found.append(-lean if position <= negated_until else lean)
    return found


def lean(text: str) -> float | None:
    """Mean of a text's opinion words, -1 (all negative) to 1 (all positive); None if it has none."""
    found = opinions(text)
    return sum(found) / len(found) if found else None


def implicit_share(text: str) -> float:
    """Share of a text's sentences without any opinion word, 0 to 1; 1 if no sentence is long enough to judge."""
    sentences = [piece for piece in _SENTENCE.findall(text) if len(piece.split()) >= _MIN_WORDS]
    if not sentences:
        return 0.0 if opinions(text) else 1.0
    return sum(not opinions(sentence) for sentence in sentences) / len(sentences)
