"""What a domain of the generated world talks about: facets, their terms, opinion words and telling facts."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

Valence = Literal["positive", "negative", "neutral"]


@dataclass(frozen=True)
class Term:
    """An aspect term; ``plural`` steers agreement."""

    text: str
    plural: bool = False


@dataclass(frozen=True)
class Word:
    """An opinion word; ``strong`` ones are very positive or very negative."""

    text: str
    strong: bool = False


@dataclass(frozen=True)
class Fact:
    """A clause that tells a sentiment without any opinion word.

    ``clause`` has slots (``grammar.fill``); ``meaning`` is what a reader takes from it, in the plain words of the
    oracle teacher.
    """

    clause: str
    meaning: str
    strong: bool = False


@dataclass(frozen=True)
class Facet:
    """One aspect category of a domain, with all that people say about it.

    Terms, words and facts stand in order of falling frequency: the tail is rare (``grammar`` draws by Zipf's law).
    ``words`` holds the words that fit this facet only, where one word may please here and displease elsewhere ("cold"
    beer, "cold" soup); words that fit everywhere are in ``GENERAL_WORDS``.
    """

    category: str
    aspects: tuple[str, ...]
    """Names that the teacher gives to it, each of one or more parts ("Food, Taste")."""
    terms: tuple[Term, ...]
    words: dict[Valence, tuple[Word, ...]]
    facts: dict[Valence, tuple[Fact, ...]]
    weight: float = 1.0
    modifiers: tuple[str, ...] = ()
    coined: bool = False
    """Some terms are made up on the spot, as rare dishes and model names are."""


@dataclass(frozen=True)
class Domain:
    """A domain of reviews: its facets, its sentences without opinion, and its name for the thing reviewed."""

    name: str
    whole: str
    """What an opinion without an explicit target is about."""
    facets: tuple[Facet, ...]
    general: dict[Valence, tuple[Fact, ...]]
    general_category: str
    general_aspects: tuple[str, ...]
    asides: tuple[str, ...] = field(default=())
    """Sentences without any opinion."""


def terms(text: str) -> tuple[Term, ...]:
    """Reads ``pasta, fries+``: comma-separated terms, plurals marked with a plus sign."""
    return tuple(Term(part.rstrip("+"), part.endswith("+")) for part in _parts(text))


def words(text: str) -> tuple[Word, ...]:
    """Reads ``tasty, superb!``: comma-separated opinion words, strong ones marked with an exclamation mark."""
    return tuple(Word(part.rstrip("!"), part.endswith("!")) for part in _parts(text))


def facts(text: str) -> tuple[Fact, ...]:
    """Reads one ``clause = meaning`` a line; a strong one ends in an exclamation mark."""
    found = []
    for line in filter(None, map(str.strip, text.splitlines())):
        clause, meaning = (part.strip() for part in line.split("="))
        found.append(Fact(clause, meaning.rstrip("!"), meaning.endswith("!")))
    return tuple(found)


def _parts(text: str) -> list[str]:
    return [" ".join(part.split()) for part in text.split(",") if part.strip()]


GENERAL_WORDS: dict[Valence, tuple[Word, ...]] = {
    "positive": words(
        """great, good, excellent!, amazing!, nice, awesome!, fantastic!, wonderful!, perfect!, lovely, decent, solid,
        impressive, outstanding!, superb!, brilliant!, terrific!, enjoyable, pleasant, fabulous!, incredible!, stellar!,
        top notch!, delightful, first rate!, exceptional!, splendid!, phenomenal!, marvelous!, admirable, commendable,
        praiseworthy, sublime!, exquisite!, magnificent!, spot on, likeable, impeccable!, flawless!, dreamy, glorious!,
        peerless!, laudable, stupendous!, satisfying, swell, dandy, ace, peachy, unrivalled!"""
    ),
    "negative": words(
        """bad, terrible!, awful!, poor, horrible!, disappointing, mediocre, lousy, annoying, dreadful!, subpar,
        unacceptable!, disgusting!, pathetic!, atrocious!, weak, frustrating, underwhelming, inferior, appalling!,
        abysmal!, lackluster, sad, shoddy, dismal, unpleasant, horrendous!, abominable!, deplorable!, ghastly!,
        wretched!, lamentable, laughable, dire, woeful, crummy, execrable!, tiresome, shameful!, regrettable, grim,
        second rate, miserable, tawdry, hideous!, naff, insufferable!, rotten!, dodgy, wanting"""
    ),
    "neutral": words("average, okay, standard, ordinary, typical, fair, passable, unremarkable, so so, middling"),
}
"""Opinion words that fit every facet."""
