"""Near duplicates among the candidates of a sample: MinHash signatures, locality-sensitive hashing, then a check.

Only candidates are compared (the sample and its reserve), never the whole dump, and each costs 256 bytes of signature
and 8 of band keys at a time: a sample of a million reviews stays under 0.5 GB. datasketch makes the signatures; its
own index holds a Python set per bucket, some 8 KB a review, so the buckets here are a sort of one band at a time.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable
from itertools import pairwise

import numpy as np
from datasketch import MinHash

from fsa_jax.reviews.fields import normalise

PERMUTATIONS = 64
BANDS = 16
"""Of 4 rows: a pair with similarity 0.8 shares a band with probability 0.9998, one with 0.3 with 0.12."""
SHINGLE_WORDS = 3

_EMPTY = MinHash(num_perm=PERMUTATIONS, seed=1, hashfunc=zlib.crc32)


def signature(text: str) -> np.ndarray:
    """MinHash signature of a text's three-word shingles: uint32, shape [64]."""
    words = normalise(text).split()
    count = max(1, len(words) - SHINGLE_WORDS + 1)
    shingles = {" ".join(words[i : i + SHINGLE_WORDS]).encode() for i in range(count)}
    sketch = _EMPTY.copy()  # drawing the permutations anew would cost more than the text does
    sketch.update_batch(shingles)
    return sketch.hashvalues.astype(np.uint32)


def near_duplicates(signatures: np.ndarray, order: np.ndarray, threshold: float) -> np.ndarray:
    """Which texts are near duplicates of an earlier one.

    Args:
      signatures: uint32, shape [n, 64].
      order: which text comes first where two are alike, shape [n]; a permutation of 0..n-1 by rank.
      threshold: estimated Jaccard similarity of three-word shingles from which two texts are alike.

    Returns:
      bool, shape [n]: True where an earlier text that is kept is alike.
    """
    dropped = np.zeros(len(signatures), bool)
    rank = np.empty(len(order), np.int64)
    rank[order] = np.arange(len(order))
    for first, second in sorted(_candidate_pairs(signatures, rank), key=lambda pair: (rank[pair[0]], rank[pair[1]])):
        if not dropped[first] and np.mean(signatures[first] == signatures[second]) >= threshold:
            dropped[second] = True
    return dropped


def _candidate_pairs(signatures: np.ndarray, rank: np.ndarray) -> Iterable[tuple[int, int]]:
    """Pairs that share a band, the better-ranked text first.

    A bucket of m texts gives m - 1 pairs with its best-ranked text plus those of neighbours in rank, not m squared:
    boilerplate that thousands share must not cost time without bound.
    """
    rows = PERMUTATIONS // BANDS
    pairs: set[tuple[int, int]] = set()
    for band in range(BANDS):
        columns = np.ascontiguousarray(signatures[:, band * rows : (band + 1) * rows])
        keys = columns.view(np.dtype((np.void, columns.dtype.itemsize * rows))).ravel()
        _, bucket = np.unique(keys, return_inverse=True)
        by_bucket = np.lexsort((rank, bucket))
        ends = np.flatnonzero(np.diff(bucket[by_bucket])) + 1
        for members in np.split(by_bucket, ends):
            if len(members) > 1:
                pairs.update((int(members[0]), int(other)) for other in members[1:])
                pairs.update((int(a), int(b)) for a, b in pairwise(members[1:]))
    return pairs
