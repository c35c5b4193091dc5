"""Sentences of the generated world: joins clauses, adds capitals, punctuation and typos, and locates the opinions."""

from __future__ import annotations

import random
from dataclasses import dataclass, replace
from typing import Literal

from fsa_jax.synthetic.clauses import (
    Chunk,
    Clause,
    Draft,
    Manner,
    draw_aside,
    draw_clause,
    draw_general,
    draw_shared,
)
from fsa_jax.synthetic.lexicon import Domain, Valence

Difficulty = Literal["easy", "hard"]


@dataclass(frozen=True)
class KnownOpinion:
    """One opinion of a generated text. Offsets are in characters, end exclusive."""

    target: str | None
    """Aspect term as written in the text, including typos; None for the domain as a whole."""
    start: int | None
    end: int | None
    opinion_words: tuple[tuple[int, int], ...]
    """Spans of the opinion words; empty for an implicit opinion."""
    draft: Draft

    @property
    def score(self) -> int:
        """The sentiment as a number from -2 (very negative) to 2 (very positive)."""
        sign = {"positive": 1, "neutral": 0, "negative": -1}[self.draft.polarity]
        return sign * (2 if self.draft.strong else 1)

    def shifted(self, by: int) -> KnownOpinion:
        """The same opinion in a text with ``by`` more characters before it."""
        return replace(
            self,
            start=None if self.start is None else self.start + by,
            end=None if self.end is None else self.end + by,
            opinion_words=tuple((start + by, end + by) for start, end in self.opinion_words),
        )


@dataclass(frozen=True)
class Passage:
    """A sentence or a review with its opinions, in the order of the text."""

    text: str
    opinions: tuple[KnownOpinion, ...]


@dataclass(frozen=True)
class Style:
    """The writing style of a reviewer."""

    capitals: bool = True
    typo_rate: float = 0.0
    """Probability that a word of four letters or more is misspelled."""


_AND = (" and ", ", and ", "; ", ", plus ", " and also ", ", besides ")
_BUT = (" but ", ", but ", ", yet ", ", though ", " whereas ", ", then again ", ", even if ")
_LEADING_BUT = ("although ", "while ", "even though ", "granted, ")
_OPPOSITE: dict[Valence, Valence] = {"positive": "negative", "negative": "positive"}


def draw_sentence(
    rng: random.Random,
    domain: Domain,
    difficulty: Difficulty,
    style: Style,
    used: set[str] | None = None,
    positive: float = 0.55,
) -> Passage:
    """Draws one sentence.

    Easy sentences express one polarity with opinion words, about one to three terms. Hard sentences are implicit,
    ironic or negated, express wishes or comparisons, or combine opposite polarities. ``used`` collects the terms that
    must not be used again. ``positive`` is the probability of a positive mood; otherwise the mood is negative.
    """
    used = set() if used is None else used
    mood: Valence = "positive" if rng.random() < positive else "negative"
    plan = _easy if difficulty == "easy" else _hard
    return _finish(rng, plan(rng, domain, mood, used), style)


def draw_general_sentence(rng: random.Random, domain: Domain, style: Style, positive: float) -> Passage:
    """Draws a sentence about the domain as a whole, without an explicit target."""
    polarity: Valence = "neutral" if rng.random() < 0.1 else "positive" if rng.random() < positive else "negative"
    return _finish(rng, draw_general(rng, domain, polarity), style)


def draw_aside_sentence(rng: random.Random, domain: Domain, style: Style) -> Passage:
    """Draws a sentence without an opinion."""
    return _finish(rng, draw_aside(rng, domain), style)


def join(passages: list[Passage]) -> Passage:
    """Joins sentences to one text."""
    text, opinions = "", []
    for passage in passages:
        text += " " if text else ""
        opinions += [opinion.shifted(len(text)) for opinion in passage.opinions]
        text += passage.text
    return Passage(text, tuple(opinions))


def _easy(rng: random.Random, domain: Domain, mood: Valence, used: set[str]) -> Clause:
    polarity: Valence = "neutral" if rng.random() < 0.1 else mood
    plan = rng.random()
    if plan < 0.2:
        return draw_shared(rng, domain, polarity, 2 if rng.random() < 0.7 else 3, used)
    clauses = [draw_clause(rng, domain, polarity, _easy_manner(rng), used) for _ in range(2 if plan < 0.45 else 1)]
    if plan > 0.85:
        clauses.append(draw_aside(rng, domain))
        rng.shuffle(clauses)
    return _join_clauses(clauses, rng.choice(_AND))


def _easy_manner(rng: random.Random) -> Manner:
    return "direct" if rng.random() < 0.8 else "attitude"


def _hard(rng: random.Random, domain: Domain, mood: Valence, used: set[str]) -> Clause:
    plan = rng.random()
    if plan < 0.24:
        polarity: Valence = "neutral" if rng.random() < 0.15 else mood
        return draw_clause(rng, domain, polarity, "implicit", used)
    if plan < 0.32:
        return draw_clause(rng, domain, "negative", "ironic", used)
    if plan < 0.48:
        manner: Manner = rng.choice(("negated", "wished", "compared"))
        return draw_clause(rng, domain, "negative" if manner == "wished" else mood, manner, used)
    first, second = (_any_clause(rng, domain, polarity, used) for polarity in (mood, _OPPOSITE[mood]))
    if rng.random() < 0.25:
        contrast = _prefix(rng.choice(_LEADING_BUT), _join_clauses([first, second], ", "))
    else:
        contrast = _join_clauses([first, second], rng.choice(_BUT))
    if plan > 0.85:
        third = _any_clause(rng, domain, rng.choice(("positive", "negative", "neutral")), used)
        return _join_clauses([contrast, third], rng.choice(_AND))
    return contrast


def _any_clause(rng: random.Random, domain: Domain, polarity: Valence, used: set[str]) -> Clause:
    manners: list[Manner] = ["direct", "attitude", "implicit", "compared"]
    weights = [45.0, 10.0, 28.0, 4.0]
    if polarity != "neutral":
        manners.append("negated")
        weights.append(13.0)
    return draw_clause(rng, domain, polarity, rng.choices(manners, weights)[0], used)


def _join_clauses(clauses: list[Clause], joint: str) -> Clause:
    chunks: list[Chunk] = []
    drafts: list[Draft] = []
    for clause in clauses:
        if chunks:
            chunks.append(Chunk(joint))
        base = len(drafts)
        chunks += [
            Chunk(
                chunk.text,
                None if chunk.target_of is None else chunk.target_of + base,
                tuple(index + base for index in chunk.words_of),
            )
            for chunk in clause.chunks
        ]
        drafts += clause.drafts
    return Clause(tuple(chunks), tuple(drafts))


def _prefix(text: str, clause: Clause) -> Clause:
    return Clause((Chunk(text), *clause.chunks), clause.drafts)


def _finish(rng: random.Random, clause: Clause, style: Style) -> Passage:
    """Adds typos, capitals and punctuation to a clause, and records the spans of its targets and opinion words."""
    text = ""
    targets: dict[int, tuple[int, int]] = {}
    opinion_words: dict[int, list[tuple[int, int]]] = {index: [] for index in range(len(clause.drafts))}
    for chunk in clause.chunks:
        written = _misspell(rng, chunk.text, style.typo_rate)
        if style.capitals:
            written = _capital_i(written)
            if not text:
                written = written[:1].upper() + written[1:]
        start, end = len(text), len(text) + len(written)
        text += written
        if chunk.target_of is not None:
            targets[chunk.target_of] = (start, end)
        for index in chunk.words_of:
            _extend(opinion_words[index], text, start, end)
    strong = any(draft.strong for draft in clause.drafts)
    text += "!" if strong and rng.random() < 0.5 else "..." if rng.random() < 0.05 else "."
    opinions = []
    for index, draft in enumerate(clause.drafts):
        start, end = targets.get(index, (None, None))
        target = None if start is None else text[start:end]
        opinions.append(KnownOpinion(target, start, end, tuple(opinion_words[index]), draft))
    return Passage(text, tuple(opinions))


def _extend(spans: list[tuple[int, int]], text: str, start: int, end: int) -> None:
    """Adds a span without the blanks at its ends; a span that starts where the last one ended is merged with it."""
    if spans and not text[spans[-1][1] : start].strip():
        start = spans.pop()[0]
    spans.append((start + len(text[start:end]) - len(text[start:end].lstrip()), len(text[:end].rstrip())))


def _capital_i(text: str) -> str:
    return " ".join("I" if word == "i" else word for word in text.split(" "))


def _misspell(rng: random.Random, text: str, rate: float) -> str:
    if not rate:
        return text
    return " ".join(
        _typo(rng, word) if len(word) > 3 and word.isalpha() and rng.random() < rate else word
        for word in text.split(" ")
    )


def _typo(rng: random.Random, word: str) -> str:
    """Swaps, drops or doubles one inner letter."""
    at = rng.randrange(1, len(word) - 1)
    kind = rng.randrange(3)
    if kind == 0:
        return word[:at] + word[at + 1] + word[at] + word[at + 2 :]
    if kind == 1:
        return word[:at] + word[at + 1 :]
    return word[:at] + word[at] + word[at:]
