"""Finds near duplicates among the candidates of a sample: MinHash signatures, locality-sensitive hashing, then a check.

Only candidates (the sample and its reserve) are compared, not the whole dump. Each needs 256 bytes for the signature
and 8 bytes for the band key, so a sample of a million reviews needs less than 0.5 GB. datasketch computes the
signatures. Its own index has a Python set per bucket, about 8 KB per review, so here buckets are found by sorting one
band at a time.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable
from itertools import pairwise

import numpy as np
from datasketch import MinHash

from fsa_jax.text.words import normalise

PERMUTATIONS = 64
BANDS = 16
"""Number of bands, of 4 rows each: a pair with similarity 0.8 shares a band with probability 0.9998; with similarity
0.3, with probability 0.12."""
SHINGLE_WORDS = 3

_EMPTY = MinHash(num_perm=PERMUTATIONS, seed=1, hashfunc=zlib.crc32)


def signature(text: str) -> np.ndarray:
    """MinHash signature of a text's three-word shingles: uint32, shape [64]."""
    words = normalise(text).split()
    count = max(1, len(words) - SHINGLE_WORDS + 1)
    shingles = {" ".join(words[i : i + SHINGLE_WORDS]).encode() for i in range(count)}
    sketch = _EMPTY.copy()  # creating the permutations again would take longer than hashing the text
    sketch.update_batch(shingles)
    return sketch.hashvalues.astype(np.uint32)


def near_duplicates(signatures: np.ndarray, order: np.ndarray, threshold: float) -> np.ndarray:
    """Which texts are near duplicates of an earlier one.

    Args:
      signatures: MinHash signatures, uint32, shape [n, 64].
      order: the texts from first to last rank, a permutation of 0..n-1, shape [n]; of two similar texts the first is
        kept.
      threshold: texts are similar if the estimated Jaccard similarity of their three-word shingles is at least this.

    Returns:
      bool, shape [n]: True if the text is similar to an earlier text that is kept.
    """
    dropped = np.zeros(len(signatures), bool)
    rank = np.empty(len(order), np.int64)
    rank[order] = np.arange(len(order))
    for first, second in sorted(_candidate_pairs(signatures, rank), key=lambda pair: (rank[pair[0]], rank[pair[1]])):
        if not dropped[first] and np.mean(signatures[first] == signatures[second]) >= threshold:
            dropped[second] = True
    return dropped


def _candidate_pairs(signatures: np.ndarray, rank: np.ndarray) -> Iterable[tuple[int, int]]:
    """Pairs of texts that share a band, the better-ranked text first.

    A bucket of m texts gives m - 1 pairs with its best-ranked text, plus the pairs of neighbours in rank. All pairs
    (m squared) would take too long for boilerplate that thousands of texts share.
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
