"""Opinion words: they show whether a text states its sentiment explicitly, and whether it is positive or negative.

Both are estimated with a word list (``opinion_words.txt``). In the labelled FSA data a sentiment is implicit if it has
no opinion words; here a sentence is implicit if none of its words is in the list. docs/sampling.md says how well this
agrees with the labels.
"""

from __future__ import annotations

import re
from functools import cache
from importlib import resources

from fsa_jax.text.stem import stem, stems

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
