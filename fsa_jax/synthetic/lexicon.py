"""The lexicon of a domain of the generated world: facets with their terms, opinion words and facts."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

Valence = Literal["positive", "negative", "neutral"]


@dataclass(frozen=True)
class Term:
    """An aspect term; ``plural`` decides the form of verbs."""

    text: str
    plural: bool = False


@dataclass(frozen=True)
class Word:
    """An opinion word; ``strong`` ones are very positive or very negative."""

    text: str
    strong: bool = False


@dataclass(frozen=True)
class Fact:
    """A clause that implies a sentiment without any opinion word.

    ``clause`` has slots (``grammar.fill``); ``meaning`` is what a reader understands from it, in the plain words of the
    oracle teacher.
    """

    clause: str
    meaning: str
    strong: bool = False


@dataclass(frozen=True)
class Facet:
    """One aspect category of a domain, with its terms, opinion words and facts.

    Terms, words and facts are sorted by falling frequency (``grammar`` draws them by Zipf's law). ``words`` has the
    words for this facet only, because a word may be positive for one facet and negative for another ("cold" beer,
    "cold" soup). Words for all facets are in ``GENERAL_WORDS``.
    """

    category: str
    aspects: tuple[str, ...]
    """Names of the facet in teacher text, each with one or more parts ("Food, Taste")."""
    terms: tuple[Term, ...]
    words: dict[Valence, tuple[Word, ...]]
    facts: dict[Valence, tuple[Fact, ...]]
    weight: float = 1.0
    modifiers: tuple[str, ...] = ()
    coined: bool = False
    """Whether some terms are invented at random, to imitate rare dishes and model names."""


@dataclass(frozen=True)
class Domain:
    """A domain of reviews: its facets, its sentences without an opinion, and the name of the reviewed thing."""

    name: str
    whole: str
    """Target of opinions without an explicit target."""
    facets: tuple[Facet, ...]
    general: dict[Valence, tuple[Fact, ...]]
    general_category: str
    general_aspects: tuple[str, ...]
    asides: tuple[str, ...] = field(default=())
    """Sentences without any opinion."""


def phrases(text: str) -> tuple[str, ...]:
    """Parses ``grilled, deep fried``: comma-separated phrases."""
    return tuple(" ".join(part.split()) for part in text.split(",") if part.strip())


def terms(text: str) -> tuple[Term, ...]:
    """Parses ``pasta, fries+``: comma-separated terms, with a plus sign after plurals."""
    return tuple(Term(part.rstrip("+"), part.endswith("+")) for part in phrases(text))


def words(text: str) -> tuple[Word, ...]:
    """Parses ``tasty, superb!``: comma-separated opinion words, with an exclamation mark after strong ones."""
    return tuple(Word(part.rstrip("!"), part.endswith("!")) for part in phrases(text))


def facts(text: str) -> tuple[Fact, ...]:
    """Parses one ``clause = meaning`` per line; a strong one ends with an exclamation mark."""
    found = []
    for line in filter(None, map(str.strip, text.splitlines())):
        clause, meaning = (part.strip() for part in line.split("="))
        found.append(Fact(clause, meaning.rstrip("!"), meaning.endswith("!")))
    return tuple(found)


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
"""Opinion words for all facets."""
