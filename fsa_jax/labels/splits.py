"""Splits sentences into training, dev and test parts by a seed, with near-identical texts in the same part."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Sequence

from fsa_jax.text.words import hash64, normalise

SIMILAR = 0.8
"""Texts are near-identical if at least this share of the words of both (each counted once) is in both (Jaccard)."""


def near_identical_groups(texts: Sequence[str]) -> list[int]:
    """The number of the group of each text: the number of its first text.

    Texts are in one group if a chain of near-identical texts links them. Case, punctuation and the order of words do not
    matter. Candidates are found by their rarest words (prefix filtering, Bayardo et al. 2007), so all similar pairs are
    found without comparing all pairs.

    Args:
      texts: the texts.
    """
    first: dict[frozenset[str], int] = {}
    words = [frozenset(normalise(text).split()) for text in texts]
    group = [first.setdefault(found, number) for number, found in enumerate(words)]
    frequency = Counter(word for found in first for word in found)
    parent = {number: number for number in first.values()}

    def root(number: int) -> int:
        while parent[number] != number:
            parent[number] = number = parent[parent[number]]
        return number

    holders: defaultdict[str, list[int]] = defaultdict(list)
    # By size: a text is compared with shorter ones only, of which those that are too short are skipped.
    for found, number in sorted(first.items(), key=lambda item: (len(item[0]), item[1])):
        rarest = sorted(found, key=lambda word: (frequency[word], word))
        prefix = rarest[: len(found) - math.ceil(SIMILAR * len(found)) + 1] if found else []
        shortest = SIMILAR * len(found)
        for other in {other for word in prefix for other in holders[word]}:
            shared = words[other]
            if len(shared) >= shortest and root(other) != root(number):
                both = len(found & shared)
                if both >= SIMILAR * (len(found) + len(shared) - both):
                    low, high = sorted((root(number), root(other)))
                    parent[high] = low
        for word in prefix:
            holders[word].append(number)
    roots = {number: root(number) for number in parent}
    # The smallest number of a group is that of its first text.
    return [roots[number] for number in group]


def split_groups(groups: Sequence[int], texts: Sequence[str], shares: Sequence[float], seed: int) -> list[int]:
    """The part of each text, such that parts have the given shares and no group is in two parts.

    Groups come in the order of a seeded hash of their first text, and fill the parts from the last one on; the first
    part gets the rest. So another order of the sentences in the file gives the same parts, if no groups are near-identical.

    Args:
      groups: the group of each text, from :func:`near_identical_groups`.
      texts: the texts.
      shares: the share of each part of all texts; they add up to 1.
      seed: random seed.

    Returns:
      For each text the number of its part, from 0. A part is empty if there are too few groups.
    """
    sizes = Counter(groups)
    order = sorted(sizes, key=lambda group: (hash64(texts[group], seed), group))
    total = len(groups)
    part_of: dict[int, int] = {}
    waiting = iter(order)
    for part in range(len(shares) - 1, 0, -1):
        wanted, held = max(1, round(shares[part] * total)), 0
        while held < wanted and (group := next(waiting, None)) is not None:
            part_of[group] = part
            held += sizes[group]
    return [part_of.get(group, 0) for group in groups]
