"""The rule that chooses held-out reviews, for teacher text in the released layout and for a corpus alike.

Reviews are ordered by a seeded hash of their words (ignoring case and punctuation). The first ones are held out, as
many as the limit on held-out rows allows. All rows about one review are in the same split, whatever their teacher and
form, and so are copies of the review under other ids. The same rows give the same validation reviews in both layouts.
Imports no TensorFlow.
"""

from __future__ import annotations

import heapq
from collections import Counter
from dataclasses import dataclass

from fsa_jax.common.records import UNDERSTANDINGS, Understanding
from fsa_jax.text.words import hash64, normalise

HELD_OUT_ROWS = 500
"""Default limit on held-out rows, as in the paper; never more than a tenth of all rows."""


def review_hash(review: str, seed: int) -> int:
    """The hash that decides whether a review is held out: 64 bits of its words, or of its text if it has no words."""
    # This must not be the hash of `fsa sample`, which chooses the reviews with the lowest values of its own hash.
    return hash64(f"held out {normalise(review) or review}", seed)


@dataclass(frozen=True)
class HeldOut:
    """The held-out reviews, and the number of rows by split and form."""

    reviews: frozenset[int]
    """Hashes of the held-out reviews."""
    seed: int
    rows: dict[tuple[str, Understanding], int]
    """Number of rows by split and form."""

    def split_of(self, review: str) -> str:
        """The split of a review, ``train`` or ``validation``; a review is never in both."""
        return self.split_of_hash(review_hash(review, self.seed))

    def split_of_hash(self, hashed: int) -> str:
        """The split of the review with this :func:`review_hash`."""
        return "validation" if hashed in self.reviews else "train"


class Choice:
    """Chooses the reviews to hold out in one pass over all rows; its memory is bounded by ``limit``.

    Args:
      limit: largest number of rows to hold out; never more than a tenth of all rows, and at least one row of each form.
      seed: random seed; another seed chooses other reviews.
    """

    def __init__(self, limit: int, seed: int) -> None:
        self._limit = limit
        self._seed = seed
        self._totals: Counter[Understanding] = Counter()
        # The limit + 1 reviews with the lowest hashes, and their numbers of rows by form. A review that left the heap
        # cannot come back, because only more reviews with lower hashes can follow. So the counts of the reviews in the
        # heap are complete.
        self._counts: dict[int, Counter[Understanding]] = {}
        self._highest: list[int] = []

    @property
    def total(self) -> int:
        """Number of rows added so far."""
        return self._totals.total()

    def add(self, review: str, form: Understanding) -> int:
        """Counts a row; returns the hash of its review."""
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
        """Returns the held-out reviews among the rows that were added."""
        allowed = min(self._limit, self.total // 10)
        chosen: set[int] = set()
        held: Counter[Understanding] = Counter()
        for hashed in sorted(self._counts):
            rows = self._counts[hashed]
            # The first review with a form is taken even if it exceeds the limit, so that validation has both forms.
            first = allowed > 0 and any(not held[form] and self._totals[form] > rows[form] for form in rows)
            if first or held.total() + rows.total() <= allowed:
                chosen.add(hashed)
                held += rows
        by_split: dict[tuple[str, Understanding], int] = {("validation", form): held[form] for form in UNDERSTANDINGS}
        by_split |= {("train", form): self._totals[form] - held[form] for form in UNDERSTANDINGS}
        return HeldOut(frozenset(chosen), self._seed, by_split)
