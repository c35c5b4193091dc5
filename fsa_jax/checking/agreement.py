"""Do the parts agree? Analysis with the stars, rewriting with the stars, analysis with rewriting.

Everything is put on one scale, -1 (all bad) to 1 (all good); a gap is half the distance, so 0 is agreement and 1 the
opposite. The lean of a rewriting is an estimate by opinion words (fsa_jax.text.opinion_words).
"""

from __future__ import annotations

from collections.abc import Sequence

from fsa_jax.common.records import SENTIMENTS, Opinion
from fsa_jax.text.opinion_words import lean as word_lean

_VALUE = {sentiment: (index - 2) / 2 for index, sentiment in enumerate(SENTIMENTS)}


def analysis_lean(opinions: Sequence[Opinion]) -> float | None:
    """Mean sentiment of an analysis; "positive" and "very positive" both count in full towards their side.

    Teachers say "positive" of what reviewers give five stars, so the step between the two says little about the stars.
    """
    if not opinions:
        return None
    return sum(max(-1.0, min(1.0, 2 * _VALUE[opinion.sentiment])) for opinion in opinions) / len(opinions)


def rewriting_lean(text: str) -> float | None:
    """Mean of a rewriting's opinion words; None where it has none."""
    return word_lean(text)


def stars_lean(stars: float | None) -> float | None:
    """1 star is -1, 3 stars 0, 5 stars 1."""
    return None if stars is None else max(-1.0, min(1.0, (stars - 3) / 2))


def gap(first: float | None, second: float | None) -> float | None:
    """Half the distance of two leans, 0 to 1; None where either is unknown."""
    return None if first is None or second is None else abs(first - second) / 2
