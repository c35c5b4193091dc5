"""The released scoring rule: micro precision, recall and F1 over sets of tuples."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Scores:
    """Precision, recall and F1, each from 0 to 1."""

    precision: float
    recall: float
    f1: float

    def percent(self) -> dict[str, float]:
        """The scores in percent, as in the papers' tables and the SeqIO metrics."""
        return {"precision": 100 * self.precision, "recall": 100 * self.recall, "f1": 100 * self.f1}


def tuple_f1(gold: Sequence[Sequence[tuple]], predicted: Sequence[Sequence[tuple]]) -> Scores:
    """Scores predicted tuples against gold ones, sentence by sentence, pooled over the dataset.

    Precision is the share of predicted tuples (duplicates included) that are among the gold tuples of their sentence.
    Recall is the share of gold tuples that are among the predicted ones. Without predicted tuples precision is 1,
    without gold tuples recall is 1 (HITSZ-HLT/FSA-Distillation, ``F1Measure``).

    Example:
      >>> gold = [[("pizza", "positive"), ("service", "negative")]]
      >>> tuple_f1(gold, [[("pizza", "positive"), ("waiter", "negative"), ("wine", "neutral")]])
      Scores(precision=0.3333333333333333, recall=0.5, f1=0.4)

    Args:
      gold: gold tuples of each sentence.
      predicted: predicted tuples of each sentence.

    Raises:
      ValueError: the two have different numbers of sentences.
    """
    predicted_total = sum(map(len, predicted))
    gold_total = sum(map(len, gold))
    right = found = 0
    for gold_tuples, predicted_tuples in zip(gold, predicted, strict=True):
        right += sum(pair in gold_tuples for pair in predicted_tuples)
        found += sum(pair in predicted_tuples for pair in gold_tuples)
    precision = right / predicted_total if predicted_total else 1.0
    recall = found / gold_total if gold_total else 1.0
    f1 = 2 * precision * recall / (precision + recall) if precision + recall else 0.0
    return Scores(precision, recall, f1)
