"""Splits sentences into training, dev and test parts by a seed, with near-identical texts in the same part."""

from __future__ import annotations

import math
from collections import Counter, defaultdict, deque
from collections.abc import Sequence

from fsa_jax.text.words import hash64, normalise

SIMILAR = 0.8
"""Texts are near-identical if at least this share of their words, each counted once, is in both (Jaccard)."""

_COMPARED = 200
"""Each of a text's rare words leads to at most so many other texts. More have the same rare words only if thousands of
texts follow a template; then the nearest in length are compared, and chains link the rest."""


def near_identical_groups(texts: Sequence[str]) -> list[int]:
    """The number of the group of each text: the number of its first text.

    Texts are in one group if a chain of near-identical texts links them. Case, punctuation and the order of words do
    not matter. Candidates are found by their rarest words (prefix filtering, Bayardo et al. 2007), so all similar pairs
    are found without comparing all pairs.

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

    holders: defaultdict[str, deque[int]] = defaultdict(lambda: deque(maxlen=_COMPARED))
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


def split_groups(
    groups: Sequence[int], texts: Sequence[str], labelled: Sequence[bool], shares: Sequence[float], seed: int
) -> list[int]:
    """The part of each text, such that parts have the given shares and no group is in two parts.

    Groups come in the order of a seeded hash of their first text, and fill the parts from the last one on; each of
    these begins with a group that has labels. The first part gets the rest. So another order of the sentences in the
    file gives the same parts, if no texts are near-identical.

    Args:
      groups: the group of each text, from :func:`near_identical_groups`.
      texts: the texts.
      labelled: whether each text has labels.
      shares: the share of each part of all texts; they add up to 1.
      seed: random seed.

    Returns:
      For each text the number of its part, from 0. A part is empty if there are too few groups.
    """
    sizes = Counter(groups)
    with_labels = {group for group, has_labels in zip(groups, labelled, strict=True) if has_labels}
    waiting = sorted(sizes, key=lambda group: (hash64(texts[group], seed), group))
    part_of: dict[int, int] = {}
    for part in range(len(shares) - 1, 0, -1):
        wanted, held = max(1, round(shares[part] * len(groups))), 0
        first = next((group for group in waiting if group in with_labels), None)
        chosen = [] if first is None else [first, *(group for group in waiting if group != first)]
        taken = set()
        for group in chosen:
            if held >= wanted:
                break
            part_of[group] = part
            taken.add(group)
            held += sizes[group]
        waiting = [group for group in waiting if group not in taken]
    return [part_of.get(group, 0) for group in groups]
