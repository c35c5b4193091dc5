"""Clauses of the generated world. Each has one opinion, or one shared by several terms, expressed in some manner."""

from __future__ import annotations

import random
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeVar

from fsa_jax.synthetic.lexicon import GENERAL_WORDS, Domain, Facet, Fact, Term, Valence, Word

Manner = Literal["direct", "attitude", "negated", "wished", "compared", "implicit", "ironic"]
"""How a clause expresses its sentiment; easy sentences use only the first two."""

T = TypeVar("T")


@dataclass(frozen=True)
class Draft:
    """An opinion whose position in a text is not known yet."""

    facet: Facet | None
    """Aspect term; None for the domain as a whole."""
    polarity: Valence
    strong: bool
    manner: Manner
    meaning: str | None = None
    """Meaning of an implicit clause in plain words; None if opinion words express it."""


@dataclass(frozen=True)
class Chunk:
    """A piece of text, and the opinions (indices in ``Clause.drafts``) whose target or opinion words it is."""

    text: str
    target_of: int | None = None
    words_of: tuple[int, ...] = ()


@dataclass(frozen=True)
class Clause:
    """Text without initial capital and full stop, and its opinions in the order of their targets."""

    chunks: tuple[Chunk, ...]
    drafts: tuple[Draft, ...]


# ``{t}``: target, ``{w}``: word, ``{i}``: intensifier; [brackets] enclose the opinion words.
_DIRECT = (
    "the {t} {was} {i}[{w}]",
    "the {t} {is} {i}[{w}]",
    "[{w}] {t}",
    "i found the {t} {i}[{w}]",
    "we thought the {t} {was} {i}[{w}]",
    "the {t} turned out {i}[{w}]",
    "{i}[{w}] {t}",
    "the {t} {was} {i}[{w}] as always",
    "i must say the {t} {is} {i}[{w}]",
    "my wife called the {t} [{w}]",
    "expect {i}[{w}] {t}",
)
_ATTITUDE: dict[Valence, tuple[tuple[str, bool], ...]] = {
    "positive": (
        ("i [loved] the {t}", True),
        ("we [enjoyed] the {t}", False),
        ("i [recommend] the {t}", False),
        ("the {t} [impressed] us", False),
        ("i am [happy] with the {t}", False),
        ("big [fan] of the {t}", False),
        ("i [adore] the {t}", True),
        ("the {t} [won me over]", False),
        ("three [cheers] for the {t}", False),
        ("hats [off] to the {t}", False),
    ),
    "negative": (
        ("i [hated] the {t}", True),
        ("the {t} [disappointed] us", False),
        ("[avoid] the {t}", False),
        ("i [regret] the {t}", False),
        ("the {t} [let us down]", False),
        ("i am [unhappy] with the {t}", False),
        ("[stay away] from the {t}", True),
        ("the {t} [drove me crazy]", True),
        ("[beware] of the {t}", False),
        ("the {t} [got on my nerves]", False),
    ),
    "neutral": (
        ("i [did not mind] the {t}", False),
        ("i have [no strong opinion] on the {t}", False),
    ),
}
# The lexicon has the valence of the word alone; the negation inverts it.
_NEGATED = (
    "the {t} {was} [not {w}]",
    "the {t} {is} [not {w} at all]",
    "i would [not call] the {t} [{w}]",
    "there was [nothing {w}] about the {t}",
    "the {t} {was} [never {w}]",
    "the {t} {was} [anything but {w}]",
    "the {t} {is} [far from {w}]",
    "[nobody] would call the {t} [{w}]",
    "the {t} {was} [hardly {w}]",
)
_WISHED = (
    "i [wish] the {t} {were} [{w}]",
    "the {t} [could have been {w}]",
    "the {t} [should be {w}] at this price",
    "i was told the {t} [would be {w}]",
    "if [only] the {t} {were} [{w}]",
    "the {t} {was} [supposed to be {w}]",
)
_COMPARED: dict[Valence, tuple[str, ...]] = {
    "positive": (
        "you will [not find better] {t}",
        "the {t} [beat] every other i know",
        "i have [never had better] {t}",
        "nobody else comes [close] to the {t}",
    ),
    "negative": (
        "i have [had better] {t}",
        "i [expected more] from the {t}",
        "the {t} [used to be better]",
        "even my worst {t} [beat] this",
    ),
    "neutral": ("the {t} {was} [no better and no worse] than elsewhere",),
}
_IRONIC = (
    "great, {f}",
    "just what i needed, {f}",
    "i just love it when {f}",
    "well done, {f}",
    "{f}, how lovely",
    "what a treat, {f}",
    "five stars, {f}",
    "{f}, bravo",
)
_INTENSIFIERS = (("", False),) * 6 + (("very ", False), ("really ", False), ("so ", False), ("quite ", False))
_STRONG_INTENSIFIERS = (("extremely ", True), ("incredibly ", True), ("absolutely ", True), ("insanely ", True))
_VALUES: dict[str, tuple[str, ...]] = {
    "short": ("five minutes", "no time", "two minutes", "a minute", "a few minutes", "10 minutes", "seconds"),
    "long": (
        "an hour",
        "forty minutes",
        "two hours",
        "over an hour",
        "half an hour",
        "45 minutes",
        "90 minutes",
    ),
    "moment": ("an hour", "forty minutes", "20 minutes", "barely an hour", "one episode"),
    "ages": ("all day", "twelve hours", "ten hours", "two days", "14 hours", "a whole weekend"),
    "many": ("three", "four", "five", "six", "seven", "ten"),
    "months": ("two months", "three weeks", "a month", "six weeks", "ten days", "half a year"),
    "years": ("three years", "four years", "six years", "a decade"),
    "far": ("fifty miles", "two hours", "across the state"),
    "little": ("twelve dollars", "fifteen bucks", "$14"),
    "lots": ("ninety dollars", "two hundred bucks", "$160"),
    "day": ("monday", "tuesday", "friday", "saturday", "sunday"),
}
_OPPOSITE: dict[Valence, Valence] = {"positive": "negative", "negative": "positive"}
_SLOT = re.compile(r"\{(\w+)\}|(\[)|(\])")


def zipf(rng: random.Random, items: Sequence[T], shift: float = 4.0) -> T:
    """Draws an item with a probability proportional to 1 / (rank + shift)."""
    # Uses the inverse of the continuous distribution with that density, which is exact enough and needs no table.
    position = shift * ((len(items) + shift) / shift) ** rng.random() - shift
    return items[min(int(position), len(items) - 1)]


def draw_facet(rng: random.Random, domain: Domain) -> Facet:
    """Draws one of a domain's facets according to their weights."""
    return rng.choices(domain.facets, [facet.weight for facet in domain.facets])[0]


def draw_term(rng: random.Random, facet: Facet, used: set[str]) -> Term:
    """Draws a term that is not in ``used`` and adds it: often a listed one, sometimes modified, rarely invented."""
    while True:
        if facet.coined and rng.random() < 0.06:
            term = Term(_coin(rng))
        else:
            term = zipf(rng, facet.terms)
            if facet.modifiers and rng.random() < 0.3:
                term = Term(f"{zipf(rng, facet.modifiers)} {term.text}", term.plural)
        if term.text not in used:
            used.add(term.text)
            return term


def fill(rng: random.Random, text: str) -> str:
    """Fills the time, money and number slots of ``text``; other slots are unchanged."""
    return re.sub(r"\{(\w+)\}", lambda slot: rng.choice(_VALUES[slot[1]]) if slot[1] in _VALUES else slot[0], text)


def draw_clause(rng: random.Random, domain: Domain, polarity: Valence, manner: Manner, used: set[str]) -> Clause:
    """Draws a clause about one term with this polarity in this manner.

    Irony and wishes are always complaints, so they need the polarity negative. Only words with a valence can be
    negated, so negation must not be neutral.
    """
    facet = draw_facet(rng, domain)
    term = draw_term(rng, facet, used)
    meaning, strong, intensifier = None, False, ""
    if manner == "direct":
        word = _draw_word(rng, facet, polarity)
        intensifier, strong = rng.choice(_INTENSIFIERS)
        if polarity != "neutral" and rng.random() < 0.12:
            intensifier, strong = rng.choice(_STRONG_INTENSIFIERS)
        strong = strong or word.strong
        template = zipf(rng, _DIRECT)
    elif manner == "attitude":
        word = Word("")
        template, strong = zipf(rng, _ATTITUDE[polarity])
    elif manner in ("negated", "wished"):
        word = _draw_word(rng, facet, _OPPOSITE[polarity])
        template = zipf(rng, _NEGATED if manner == "negated" else _WISHED)
    elif manner == "compared":
        word = Word("")
        template = zipf(rng, _COMPARED[polarity])
    else:
        word = Word("")
        fact = zipf(rng, facet.facts[polarity], shift=10)
        template, meaning, strong = fact.clause, fact.meaning, fact.strong
        if manner == "ironic":
            template = rng.choice(_IRONIC).replace("{f}", template)
    draft = Draft(facet, polarity, strong, manner, meaning)
    return Clause(_realise(fill(rng, template), [term], word.text, intensifier), (draft,))


def draw_shared(rng: random.Random, domain: Domain, polarity: Valence, count: int, used: set[str]) -> Clause:
    """Draws a clause in which ``count`` terms of one facet share one opinion word."""
    facet = rng.choice([facet for facet in domain.facets if len(facet.terms) > 2 * count])
    members = [draw_term(rng, facet, used) for _ in range(count)]
    word = _draw_word(rng, facet, polarity)
    chunks: list[Chunk] = [Chunk("the ")]
    for index, term in enumerate(members):
        if index:
            chunks.append(Chunk(" and " if index == count - 1 else ", "))
        chunks.append(Chunk(term.text, target_of=index))
    chunks += [Chunk(" were "), Chunk(word.text, words_of=tuple(range(count)))]
    return Clause(tuple(chunks), (Draft(facet, polarity, word.strong, "direct"),) * count)


def draw_general(rng: random.Random, domain: Domain, polarity: Valence) -> Clause:
    """Draws a clause about the domain as a whole, without an explicit target."""
    fact: Fact = rng.choice(domain.general[polarity])
    draft = Draft(None, polarity, fact.strong, "implicit", fact.meaning)
    return Clause((Chunk(fill(rng, fact.clause)),), (draft,))


def draw_aside(rng: random.Random, domain: Domain) -> Clause:
    """Draws a clause without an opinion."""
    return Clause((Chunk(fill(rng, rng.choice(domain.asides))),), ())


def _draw_word(rng: random.Random, facet: Facet, valence: Valence) -> Word:
    special = facet.words[valence]
    return zipf(rng, special if rng.random() < 0.6 else GENERAL_WORDS[valence])


def _realise(template: str, members: Sequence[Term], word: str, intensifier: str) -> tuple[Chunk, ...]:
    term = members[0]
    values = {
        "w": word,
        "i": intensifier,
        "was": "were" if term.plural else "was",
        "is": "are" if term.plural else "is",
        "were": "were",
    }
    chunks: list[Chunk] = []
    marked, position = False, 0

    def add(text: str) -> None:
        if text:
            chunks.append(Chunk(text, words_of=(0,) if marked else ()))

    for match in _SLOT.finditer(template):
        add(template[position : match.start()])
        position = match.end()
        if match[2] or match[3]:
            marked = bool(match[2])
        elif match[1] == "t":
            chunks.append(Chunk(term.text, target_of=0))
        else:
            add(values[match[1]])
    add(template[position:])
    return tuple(chunks)


_ONSETS = ("k", "z", "m", "br", "l", "t", "sh", "v", "p", "dr", "n", "ch", "y", "g")
_VOWELS = ("a", "o", "i", "e", "u", "ai", "ou")
_CODAS = ("", "", "n", "l", "r", "sh", "x")


def _coin(rng: random.Random) -> str:
    syllables = [
        rng.choice(_ONSETS) + rng.choice(_VOWELS) + (rng.choice(_CODAS) if last else "")
        for last in ((False, True) if rng.random() < 0.5 else (False, False, True))
    ]
    return "".join(syllables)
