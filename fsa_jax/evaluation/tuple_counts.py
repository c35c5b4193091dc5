"""Counts of right and found tuples, sentence by sentence, from which F1 of any choice of sentences can be computed.

There are two rules: the released one, and one that tolerates wrong boundaries of terms.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Literal, get_args

import numpy as np
from scipy.optimize import linear_sum_assignment

Scoring = Literal["exact", "tolerant"]
SCORINGS: tuple[Scoring, ...] = get_args(Scoring)

Tuples = Sequence[Sequence[tuple]]
"""The tuples of each sentence."""


def exact_counts(gold: Tuples, predicted: Tuples) -> np.ndarray:
    """Counts by the released rule (``released_rule.tuple_f1``).

    Returns:
      Shape (sentences, 4): right predicted tuples, predicted tuples, found gold tuples, gold tuples.

    Raises:
      ValueError: the two have different numbers of sentences.
    """
    rows = [
        (sum(pair in right for pair in guess), len(guess), sum(pair in guess for pair in right), len(right))
        for right, guess in zip(gold, predicted, strict=True)
    ]
    return np.array(rows, dtype=np.int64).reshape(-1, 4)


def tolerant_counts(texts: Sequence[str], gold: Tuples, predicted: Tuples) -> np.ndarray:
    """Counts that tolerate wrong boundaries: a term need only overlap the gold term in the sentence.

    Equal tuples are matched first. Then as many as possible of the remaining predicted tuples are matched with
    remaining gold tuples, one to one, where every element agrees: it is equal, or both texts occur in the sentence at
    places that have a letter or digit in common. So polarities and categories must be equal, and terms (and opinion
    words) must overlap. Duplicates of a predicted tuple count as that tuple does, as in the released rule. F1 is
    therefore never lower than by ``exact_counts``.

    Example:
      >>> gold = [[("spicy tuna roll", "positive")]]
      >>> tolerant_counts(["The spicy tuna roll was great"], gold, [[("tuna roll", "positive")]])
      array([[1, 1, 1, 1]])

    Args:
      texts: the sentences.
      gold: gold tuples of each sentence, each once.
      predicted: predicted tuples of each sentence.

    Returns:
      Shape (sentences, 4), as ``exact_counts``.

    Raises:
      ValueError: the three have different numbers of sentences.
    """
    rows = []
    for text, right, guess in zip(texts, gold, predicted, strict=True):
        matched = {pair for pair in guess if pair in right}
        found = sum(pair in matched for pair in right)
        rest = [pair for pair in dict.fromkeys(guess) if pair not in matched]
        missed = [pair for pair in right if pair not in matched]
        if rest and missed:
            agree = np.array([[_agree(text, one, other) for other in missed] for one in rest])
            rows_of_rest, columns = linear_sum_assignment(agree, maximize=True)
            hits = agree[rows_of_rest, columns]
            matched |= {rest[row] for row in rows_of_rest[hits]}
            found += int(hits.sum())
        rows.append((sum(pair in matched for pair in guess), len(guess), found, len(right)))
    return np.array(rows, dtype=np.int64).reshape(-1, 4)


def f1_of_totals(totals: np.ndarray) -> np.ndarray:
    """Micro F1, 0 to 1, from totals of shape (…, 4).

    As in the released rule, precision without predictions and recall without gold tuples are 1.
    """
    precision, recall = _precision_and_recall(np.asarray(totals, dtype=float))
    total = precision + recall
    return np.where(total > 0, 2 * precision * recall / np.where(total > 0, total, 1.0), 0.0)


def f1_and_influence(counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """F1 of runs, and by how much each sentence raises or lowers it to first order.

    The second is the empirical influence function of F1 divided by the number of sentences (the infinitesimal
    jackknife; Efron and Tibshirani 1993, section 21.3). It adds up to 0 over the sentences of a run.

    Args:
      counts: shape (runs, sentences, 4).

    Returns:
      F1, shape (runs,), and influence, shape (runs, sentences).
    """
    counts = np.asarray(counts, dtype=float)
    totals = counts.sum(axis=1)
    precision, recall = _precision_and_recall(totals)
    squared = np.where(precision + recall > 0, (precision + recall) ** 2, np.inf)
    right, predicted, found, gold = np.moveaxis(counts, -1, 0)
    of_precision = (right - precision[:, None] * predicted) / np.maximum(totals[:, 1], 1)[:, None]
    of_recall = (found - recall[:, None] * gold) / np.maximum(totals[:, 3], 1)[:, None]
    influence = (2 * recall**2 / squared)[:, None] * of_precision + (2 * precision**2 / squared)[:, None] * of_recall
    return f1_of_totals(totals), influence


def _precision_and_recall(totals: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    right, predicted, found, gold = np.moveaxis(totals, -1, 0)
    # Means of counts over runs may be below 1.
    precision = np.where(predicted > 0, right / np.where(predicted > 0, predicted, 1.0), 1.0)
    recall = np.where(gold > 0, found / np.where(gold > 0, gold, 1.0), 1.0)
    return precision, recall


def _agree(text: str, one: tuple, other: tuple) -> bool:
    return len(one) == len(other) and all(a == b or _overlap(text, a, b) for a, b in zip(one, other, strict=True))


def _overlap(text: str, one: str, other: str) -> bool:
    """Whether some place of one text in the sentence has a letter or digit in common with some place of the other."""
    return any(
        any(character.isalnum() for character in text[max(start, begin) : min(start + len(one), begin + len(other))])
        for start in _places(text, one)
        for begin in _places(text, other)
    )


def _places(text: str, part: str) -> Iterator[int]:
    start = text.find(part) if part else -1
    while start >= 0:
        yield start
        start = text.find(part, start + 1)
