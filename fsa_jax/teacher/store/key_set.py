"""A growing set of 16-byte keys that needs 16 bytes per key; Python's set needs about a hundred."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

KEY_BYTES = 16

# numpy ignores trailing zero bytes when it compares "S" values; for keys of equal length that makes no difference.
KEYS = np.dtype(f"S{KEY_BYTES}")

Keys = NDArray[np.bytes_]
"""Shape (n,), dtype KEYS."""


def as_keys(keys: Sequence[bytes]) -> Keys:
    """Keys as an array; each must have 16 bytes."""
    return np.frombuffer(b"".join(keys), KEYS) if len(keys) else np.empty(0, KEYS)


class KeySet:
    """A set made of sorted arrays of doubling sizes, so that adding n keys moves each of them at most log n times."""

    def __init__(self, keys: Keys | None = None) -> None:
        self._levels: list[Keys] = []
        if keys is not None and len(keys):
            self._levels.append(np.unique(keys))

    def __len__(self) -> int:
        return sum(map(len, self._levels))

    @property
    def nbytes(self) -> int:
        return sum(level.nbytes for level in self._levels)

    def contains(self, keys: Keys) -> NDArray[np.bool_]:
        """Whether each of the keys is in the set; shape (n,)."""
        found = np.zeros(len(keys), bool)
        for level in self._levels:
            at = np.searchsorted(level, keys)
            found |= level[np.minimum(at, len(level) - 1)] == keys
        return found

    def add_new(self, keys: Keys) -> NDArray[np.bool_]:
        """Adds keys; returns which of them were new (True for the first occurrence only). Shape (n,)."""
        new = np.zeros(len(keys), bool)
        new[np.unique(keys, return_index=True)[1]] = True
        new &= ~self.contains(keys)
        added = np.sort(keys[new])
        while len(added) and self._levels and len(self._levels[-1]) < 2 * len(added):
            added = np.sort(np.concatenate([self._levels.pop(), added]))
        if len(added):
            self._levels.append(added)
        return new

    def update(self, other: KeySet) -> None:
        """Adds all keys of another set."""
        for level in other._levels:
            self.add_new(level)
