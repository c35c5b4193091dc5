"""Draws a uniform sample of the distinct texts in a stream; its memory depends only on the size of the sample.

Every text gets a priority, a seeded 64-bit hash of its words. The texts with the k lowest priorities are a uniform
sample without replacement. Copies of a text have the same priority, so they are detected in the sample and do not make
a text more likely. No set of all texts is needed (bottom-k sketch, Cohen and Kaplan 2007).
"""

from __future__ import annotations

import numpy as np

_FIRST_ROWS = 1 << 16


class DistinctSample:
    """Rows with the k lowest distinct priorities; of several with one priority, the one with the lowest number."""

    def __init__(self, k: int):
        self._k = k
        # Twice k, so that it is sorted and cut to k only once in k offers. The arrays grow as needed, because k may be
        # larger than the number of rows.
        self._capacity = max(2 * k, 16)
        self._priorities = np.empty(min(self._capacity, _FIRST_ROWS), np.uint64)
        self._rows = np.empty(len(self._priorities), np.int64)
        self._filled = 0
        self._limit = 2**64
        self.duplicates = 0
        """Number of copies of candidates; copies of texts that never were candidates are not counted."""

    def offer(self, value: int, row: int) -> None:
        """Offers a row to the sample; ``row`` must grow from call to call."""
        if value > self._limit or self._k == 0:
            return
        self._priorities[self._filled] = value
        self._rows[self._filled] = row
        self._filled += 1
        if self._filled == len(self._rows):
            if self._filled < self._capacity:
                self._grow()
            else:
                self._compact()

    @property
    def is_full(self) -> bool:
        """Whether distinct texts may have been left out."""
        return self._filled >= self._k

    def _grow(self) -> None:
        size = min(self._capacity, 2 * self._filled)
        self._priorities = np.resize(self._priorities, size)
        self._rows = np.resize(self._rows, size)

    def _compact(self) -> None:
        priorities, first = np.unique(self._priorities[: self._filled], return_index=True)
        self.duplicates += self._filled - len(first)
        kept = min(self._k, len(first))
        rows = self._rows[first[:kept]]
        self._priorities[:kept] = priorities[:kept]
        self._rows[:kept] = rows
        self._filled = kept
        if 0 < kept == self._k:
            self._limit = int(priorities[kept - 1])

    def candidates(self) -> tuple[np.ndarray, np.ndarray]:
        """Priorities (uint64, ascending) and row numbers (int64) of the sample, each of shape [<= k]."""
        self._compact()
        return self._priorities[: self._filled].copy(), self._rows[: self._filled].copy()
