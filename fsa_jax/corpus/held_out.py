"""The one rule for held-out reviews, of teacher text in the released layout and of a corpus alike.

Reviews are taken by a seeded hash of their words (case and punctuation folded), lowest first, as many as fit into the
rows that may be held out. All rows about one review, whoever wrote them and in whatever form, are on one side, and so
are copies of it under other ids. The same rows give the same validation reviews in either layout. Needs no TensorFlow.
"""

from __future__ import annotations

import heapq
from collections import Counter
from dataclasses import dataclass

from fsa_jax.common.hashing import hash64
from fsa_jax.common.records import UNDERSTANDINGS, Understanding
from fsa_jax.reviews.fields import normalise

HELD_OUT_ROWS = 500
"""Rows held out at most, as in the paper; and never more than a tenth of all."""


def review_hash(review: str, seed: int) -> int:
    """What decides whether a review is held out: 64 bits of its words, or of the text itself if it has none."""
    # Not the hash that `fsa sample` draws by: the reviews with its lowest values are those that it chose.
    return hash64(f"held out {normalise(review) or review}", seed)


@dataclass(frozen=True)
class HeldOut:
    """Which reviews are held out, and how many rows each split has of each form of text."""

    reviews: frozenset[int]
    """Their hashes."""
    seed: int
    rows: dict[tuple[str, Understanding], int]
    """By split and form."""

    def split_of(self, review: str) -> str:
        """``train`` or ``validation``; a review never stands in both."""
        return self.split_of_hash(review_hash(review, self.seed))

    def split_of_hash(self, hashed: int) -> str:
        """The same for a :func:`review_hash`."""
        return "validation" if hashed in self.reviews else "train"


class Choice:
    """Chooses the reviews to hold out in one pass over all rows, in memory that ``limit`` bounds.

    Args:
      limit: rows to hold out at most; never more than a tenth of all, and at least one row of each form.
      seed: another seed chooses other reviews.
    """

    def __init__(self, limit: int, seed: int) -> None:
        self._limit = limit
        self._seed = seed
        self._totals: Counter[Understanding] = Counter()
        # The limit + 1 reviews of lowest hash, and their rows by form. What once left the heap can never come back: the
        # reviews below it only grow in number. So the counts of those that stay are complete.
        self._counts: dict[int, Counter[Understanding]] = {}
        self._highest: list[int] = []

    @property
    def total(self) -> int:
        """Rows so far."""
        return self._totals.total()

    def add(self, review: str, form: Understanding) -> int:
        """Counts a row; returns its review's hash."""
        self._totals[form] += 1
        hashed = review_hash(review, self._seed)
        if hashed not in self._counts:
            if len(self._highest) > self._limit and hashed > -self._highest[0]:
                return hashed
            self._counts[hashed] = Counter()
            heapq.heappush(self._highest, -hashed)
            if len(self._highest) > self._limit + 1:
                del self._counts[-heapq.heappop(self._highest)]
        self._counts[hashed][form] += 1
        return hashed

    def made(self) -> HeldOut:
        """Returns what is held out of the rows that were added."""
        allowed = min(self._limit, self.total // 10)
        chosen: set[int] = set()
        held: Counter[Understanding] = Counter()
        for hashed in sorted(self._counts):
            rows = self._counts[hashed]
            # The first of each form is taken even where it does not fit: validation without one form is of no use.
            first = allowed > 0 and any(not held[form] and self._totals[form] > rows[form] for form in rows)
            if first or held.total() + rows.total() <= allowed:
                chosen.add(hashed)
                held += rows
        by_split: dict[tuple[str, Understanding], int] = {("validation", form): held[form] for form in UNDERSTANDINGS}
        by_split |= {("train", form): self._totals[form] - held[form] for form in UNDERSTANDINGS}
        return HeldOut(frozenset(chosen), self._seed, by_split)
