"""The generated world: reviews and labelled sentences, each drawn with its own random generator.

The random generator of a review or sentence depends on the seed of the world and its number. So the first thousand
reviews of a world do not depend on how many are drawn.
"""

from __future__ import annotations

import random
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Literal

from fsa_base.errors import SettingError
from fsa_jax.common.records import Review
from fsa_jax.synthetic.grammar import (
    Difficulty,
    KnownOpinion,
    Passage,
    Style,
    draw_aside_sentence,
    draw_general_sentence,
    draw_sentence,
    join,
)
from fsa_jax.synthetic.laptops import LAPTOPS
from fsa_jax.synthetic.lexicon import Domain
from fsa_jax.synthetic.restaurants import RESTAURANTS

DOMAINS: tuple[Domain, ...] = (RESTAURANTS, LAPTOPS)

Split = Literal["train", "dev", "test", "hard_test"]

STAR_WEIGHTS = (1, 2, 4, 2, 1)
"""Weights of one- to five-star moods of reviewers, as in the sampling of arXiv 2412.18552, which prefers the middle."""
_POSITIVE_SHARE = (0.06, 0.28, 0.52, 0.76, 0.94)
_HARD_SHARE = 0.45
_TYPO_RATE = 0.015


@dataclass(frozen=True)
class KnownReview:
    """A review and its known opinions."""

    review: Review
    domain: Domain
    opinions: tuple[KnownOpinion, ...]


@dataclass(frozen=True)
class SplitSizes:
    """Numbers of sentences in the splits of a labelled dataset."""

    train: int = 300
    dev: int = 200
    test: int = 500
    hard_test: int = 500

    def __post_init__(self) -> None:
        for split, count in vars(self).items():
            if count < 1:
                raise SettingError(f"sentences of {split}", expected="at least 1", found=str(count), fix="ask for more")


def draw_reviews(seed: int, count: int, withheld: Collection[str] = ()) -> Iterator[KnownReview]:
    """Yields ``count`` reviews of alternating domains; no review has a sentence that is in ``withheld``."""
    for number in range(count):
        yield _draw_review(seed, number, withheld)


def stars(opinions: tuple[KnownOpinion, ...]) -> float:
    """The star rating for the opinions: 3 plus their mean score, rounded to whole stars from 1 to 5."""
    if not opinions:
        return 3.0
    mean = sum(opinion.score for opinion in opinions) / len(opinions)
    return float(min(5, max(1, int(3 + mean + 0.5))))


def draw_labelled(
    seed: int, dataset: str, domain: Domain, sizes: SplitSizes, with_categories: bool
) -> dict[Split, list[Passage]]:
    """Draws the splits of a labelled dataset; no sentence occurs twice, neither in one split nor in two.

    ``test`` is easy and ``hard_test`` is hard; ``train`` and ``dev`` have both kinds. With categories (ACSA), some
    sentences are about the domain as a whole. Without categories (ATSA), every opinion has an explicit target.
    """
    seen: set[str] = set()
    drawn: dict[Split, list[Passage]] = {}
    plan: tuple[tuple[Split, int, float], ...] = (
        ("hard_test", sizes.hard_test, 1.0),
        ("test", sizes.test, 0.0),
        ("dev", sizes.dev, _HARD_SHARE),
        ("train", sizes.train, _HARD_SHARE),
    )
    for split, count, hard_share in plan:
        sentences: list[Passage] = []
        number = 0
        while len(sentences) < count:
            rng = random.Random(f"{seed}/{dataset}/{split}/{number}")
            passage = _draw_labelled_passage(rng, domain, hard_share, with_categories)
            if passage.text not in seen:
                seen.add(passage.text)
                sentences.append(passage)
            number += 1
        drawn[split] = sentences
    return drawn


def _draw_review(seed: int, number: int, withheld: Collection[str]) -> KnownReview:
    rng = random.Random(f"{seed}/review/{number}")
    domain = DOMAINS[number % len(DOMAINS)]
    positive = rng.choices(_POSITIVE_SHARE, STAR_WEIGHTS)[0]
    style = _draw_style(rng)
    used: set[str] = set()
    sentences: list[Passage] = []
    wanted = rng.choices((1, 2, 3), (5, 3, 1))[0]
    # A review without any opinion is useless, so sentences are added until there is one.
    while len(sentences) < wanted or not any(sentence.opinions for sentence in sentences):
        sentence = _draw_review_sentence(rng, domain, style, used, positive)
        if sentence.text not in withheld:
            sentences.append(sentence)
    passage = join(sentences)
    review = Review(id=str(1_000_000 + number), text=passage.text, stars=stars(passage.opinions), domain=domain.name)
    return KnownReview(review, domain, passage.opinions)


def _draw_review_sentence(rng: random.Random, domain: Domain, style: Style, used: set[str], positive: float) -> Passage:
    kind = rng.random()
    if kind < 0.08:
        return draw_aside_sentence(rng, domain, style)
    # The domain as a whole, like every term, is used only once in a review.
    if kind < 0.16 and domain.whole not in used:
        used.add(domain.whole)
        return draw_general_sentence(rng, domain, style, positive)
    difficulty: Difficulty = "hard" if rng.random() < _HARD_SHARE else "easy"
    return draw_sentence(rng, domain, difficulty, style, used, positive)


def _draw_labelled_passage(rng: random.Random, domain: Domain, hard_share: float, with_categories: bool) -> Passage:
    style = _draw_style(rng)
    if with_categories and rng.random() < 0.1:
        return draw_general_sentence(rng, domain, style, positive=0.55)
    if 0 < hard_share < 1 and rng.random() < 0.03:
        return draw_aside_sentence(rng, domain, style)
    return draw_sentence(rng, domain, "hard" if rng.random() < hard_share else "easy", style)


def _draw_style(rng: random.Random) -> Style:
    return Style(capitals=rng.random() < 0.85, typo_rate=_TYPO_RATE)
