"""Measures whether an analysis, a rewriting and the star rating of one review agree.

Each of them gets a lean: its mean sentiment on a scale from -1 (all negative) to 1 (all positive). The gap between two
leans is half their distance: 0 is full agreement, 1 is the opposite. The lean of a rewriting is estimated from its
opinion words (fsa_jax.text.opinion_words).
"""

from __future__ import annotations

from collections.abc import Sequence

from fsa_jax.common.records import SENTIMENTS, Opinion
from fsa_jax.text.opinion_words import lean as word_lean

_VALUE = {sentiment: (index - 2) / 2 for index, sentiment in enumerate(SENTIMENTS)}


def analysis_lean(opinions: Sequence[Opinion]) -> float | None:
    """Mean sentiment of an analysis, where "positive" and "very positive" both count as 1, and likewise for -1.

    Teachers often write "positive" where the reviewer gives five stars, so the difference between "positive" and "very
    positive" says little about the stars.
    """
    if not opinions:
        return None
    return sum(max(-1.0, min(1.0, 2 * _VALUE[opinion.sentiment])) for opinion in opinions) / len(opinions)


def rewriting_lean(text: str) -> float | None:
    """Mean polarity of a rewriting's opinion words; None if it has none."""
    return word_lean(text)


def stars_lean(stars: float | None) -> float | None:
    """Lean of a star rating: 1 star is -1, 3 stars are 0, 5 stars are 1."""
    return None if stars is None else max(-1.0, min(1.0, (stars - 3) / 2))


def gap(first: float | None, second: float | None) -> float | None:
    """Half the distance between two leans, 0 to 1; None if one of them is unknown."""
    return None if first is None or second is None else abs(first - second) / 2
