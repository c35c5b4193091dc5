"""The oracle teacher: it knows every opinion of a generated review, and makes mistakes at given rates.

It writes both forms of teacher text (arXiv 2412.18552, section 3): the analysis in the format of the released corpus,
and the rewriting, which is the review restated in the first person with explicit sentiment. Both forms express the same
opinions about a review, including mistakes, like two answers of one teacher.
"""

from __future__ import annotations

import random
import re
from dataclasses import dataclass
from typing import Literal

from fsa_base.errors import SettingError
from fsa_jax.common.records import Opinion, Sentiment, Understanding
from fsa_jax.synthetic.clauses import draw_facet, draw_term
from fsa_jax.synthetic.grammar import KnownOpinion
from fsa_jax.synthetic.lexicon import Domain
from fsa_jax.synthetic.world import KnownReview
from fsa_jax.text import analysis

Mistake = Literal["flipped sentiment", "missed opinion", "wrong target"]

_SENTIMENTS: dict[int, Sentiment] = {
    -2: "very negative",
    -1: "negative",
    0: "neutral",
    1: "positive",
    2: "very positive",
}
_FLIPPED: dict[Sentiment, Sentiment] = {
    "very negative": "positive",
    "negative": "positive",
    "neutral": "negative",
    "positive": "negative",
    "very positive": "negative",
}
_FEELINGS: dict[Sentiment, tuple[str, ...]] = {
    "very negative": ("I am furious about", "I really hate"),
    "negative": ("I am unhappy with", "I do not like"),
    "neutral": ("I have no feelings about", "I am neutral about"),
    "positive": ("I am pleased with", "I like"),
    "very positive": ("I am delighted with", "I really love"),
}
# An analysis says "the user wants to return" where a rewriting says "I want to return".
_FIRST_PERSON = (
    (re.compile(r"\bthe user does\b"), "I do"),
    (re.compile(r"\bthe user is\b"), "I am"),
    (re.compile(r"\bthe user only (\w+)s\b"), r"I only \1"),
    (re.compile(r"\bthe user (\w+)s\b"), r"I \1"),
)


@dataclass(frozen=True)
class Taught:
    """The opinions of the oracle about a review, with its mistakes."""

    opinions: tuple[Opinion, ...]
    mistakes: tuple[Mistake, ...]
    hallucinated: int
    """Opinions about something that the review does not mention."""


@dataclass(frozen=True)
class Oracle:
    """The oracle teacher.

    Args:
      seed: random seed of its mistakes and its choice of words.
      mistake_rate: probability, for each opinion, of a flipped sentiment, a missed opinion or a wrong target (equally
        likely).
      hallucination_rate: probability, for each review, of an opinion about something that it does not mention.

    Raises:
      SettingError: a rate is not between 0 and 1.
    """

    seed: int = 0
    mistake_rate: float = 0.0
    hallucination_rate: float = 0.0

    def __post_init__(self) -> None:
        for name in ("mistake_rate", "hallucination_rate"):
            if not 0 <= getattr(self, name) <= 1:
                raise SettingError(
                    name,
                    expected="a probability from 0 to 1",
                    found=str(getattr(self, name)),
                    fix="set one in that range",
                )

    def understand(self, known: KnownReview) -> Taught:
        """The opinions that the oracle finds in a review; each is right with probability ``1 - mistake_rate``."""
        rng = random.Random(f"{self.seed}/understand/{known.review.id}")
        taught: list[Opinion] = []
        mistakes: list[Mistake] = []
        for opinion in known.opinions:
            understood = _understand(rng, known, opinion)
            if rng.random() < self.mistake_rate:
                mistake = rng.choice(("flipped sentiment", "missed opinion", "wrong target"))
                mistakes.append(mistake)
                if mistake == "missed opinion":
                    continue
                understood = _err(rng, known, understood, mistake)
            taught.append(understood)
        hallucinated = int(rng.random() < self.hallucination_rate)
        if hallucinated:
            taught.insert(rng.randint(0, len(taught)), _hallucinate(rng, known))
        return Taught(tuple(taught), tuple(mistakes), hallucinated)

    def write(self, known: KnownReview, understanding: Understanding) -> str:
        """Writes the teacher's answer to the analysis or the rewriting prompt."""
        taught = self.understand(known)
        if understanding == "analysis":
            return analysis.write(taught.opinions)
        rng = random.Random(f"{self.seed}/rewriting/{known.review.id}")
        return " ".join(_rewrite(rng, opinion) for opinion in taught.opinions) or "I do not judge anything here."


def _understand(rng: random.Random, known: KnownReview, opinion: KnownOpinion) -> Opinion:
    facet, sentiment = opinion.draft.facet, _SENTIMENTS[opinion.score]
    aspects = rng.choice(facet.aspects if facet else known.domain.general_aspects)
    text = known.review.text
    if opinion.draft.meaning is None:
        words = " … ".join(text[start:end] for start, end in opinion.opinion_words)
        reasoning = f'"{words}" is {sentiment}.'
    elif opinion.draft.manner == "ironic":
        reasoning = f"The praise is ironic, {opinion.draft.meaning}."
    elif opinion.score == 0:
        reasoning = f"{opinion.draft.meaning[0].upper()}{opinion.draft.meaning[1:]}."
    else:
        reasoning = f"The user implies that {opinion.draft.meaning}."
    return Opinion(
        target=opinion.target or known.domain.whole,
        aspects=tuple(aspects.split(", ")),
        sentiment=sentiment,
        reasoning=reasoning,
    )


def _err(rng: random.Random, known: KnownReview, right: Opinion, mistake: Mistake) -> Opinion:
    if mistake == "flipped sentiment":
        return right.model_copy(update={"sentiment": _FLIPPED[right.sentiment]})
    # The wrong target is a word of the review that is in no target, so that it is never right by chance.
    targets = {word for opinion in known.opinions for word in (opinion.target or known.domain.whole).split()}
    others = [word for word in re.findall(r"\w+", known.review.text) if word not in targets]
    return right.model_copy(update={"target": rng.choice(others or [known.domain.name])})


def _hallucinate(rng: random.Random, known: KnownReview) -> Opinion:
    facet, target = _absent(rng, known.domain, known.review.text.lower())
    sentiment = rng.choice(tuple(_FLIPPED))
    aspects = tuple(rng.choice(facet.aspects).split(", "))
    reasoning = f"The user mentions the {target} and is {sentiment}."
    return Opinion(target=target, aspects=aspects, sentiment=sentiment, reasoning=reasoning)


def _absent(rng: random.Random, domain: Domain, text: str):
    while True:
        facet = draw_facet(rng, domain)
        term = draw_term(rng, facet, set()).text
        if term not in text:
            return facet, term


def _rewrite(rng: random.Random, opinion: Opinion) -> str:
    feeling = f"{rng.choice(_FEELINGS[opinion.sentiment])} the {opinion.target}"
    quoted = re.search(r'"(.+?)"', opinion.reasoning or "")
    if quoted:
        return f"{feeling}: {quoted[1]}."
    meaning = (opinion.reasoning or "").removeprefix("The user implies that ").removeprefix("The praise is ironic, ")
    for pattern, replacement in _FIRST_PERSON:
        meaning = pattern.sub(replacement, meaning.replace("The user", "the user"))
    return f"{feeling}, because {meaning}"
