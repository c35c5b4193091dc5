"""What the demo measured: read from the runs' files, compared, and kept as one JSON file."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence

from fsa_jax.common.records import LabelledSentence, Record
from fsa_jax.evaluation.compare import paired_bootstrap
from fsa_jax.evaluation.metrics import tuple_f1
from fsa_jax.evaluation.subsets import Subset, select

ARMS = ("scratch", "distilled")
"""The student trained on labelled sentences alone, and the one that was distilled before."""

TEST_SUBSETS: tuple[Subset, ...] = ("original", "hard", "implicit", "multi")
"""What the table shows; the first two are the easy and the hard test set."""

Pairs = list[tuple[str, str]]


class Run(Record):
    """One fine-tuned student on the test sentences."""

    arm: str
    seed: int
    learning_rate: float
    f1: dict[str, float]
    """F1 in percent by subset."""
    predictions: tuple[tuple[tuple[str, str], ...], ...]


class Trial(Record):
    """One fine-tuning on the way to the best learning rate: F1 on the dev sentences in percent, by step."""

    arm: str
    seed: int
    learning_rate: float
    curve: tuple[tuple[int, float], ...]

    @property
    def dev_f1(self) -> float:
        """At the end of the training, which is what is tested."""
        return self.curve[-1][1]


class Gain(Record):
    """What distillation gains on a subset, in F1 points, with its 95 % confidence interval."""

    mean: float
    low: float
    high: float


class Results(Record):
    """Everything that the demo measured."""

    runs: tuple[Run, ...]
    trials: tuple[Trial, ...]
    gains: dict[str, Gain]
    counts: dict[str, int]
    """Sentences by subset."""
    distillation: tuple[tuple[int, float], ...]
    """Training loss per target token by step."""

    def of(self, arm: str) -> list[Run]:
        return [run for run in self.runs if run.arm == arm]

    def mean(self, arm: str, subset: str) -> float:
        return statistics.mean(run.f1[subset] for run in self.of(arm))

    def deviation(self, arm: str, subset: str) -> float:
        """Standard deviation over seeds (that of a sample); 0 for a single seed."""
        values = [run.f1[subset] for run in self.of(arm)]
        return statistics.stdev(values) if len(values) > 1 else 0.0


def best_rate(trials: Sequence[Trial], arm: str) -> float:
    """The learning rate with the best dev F1 in an arm's search; the smaller of equals."""
    candidates = [trial for trial in trials if trial.arm == arm]
    return min(candidates, key=lambda trial: (-trial.dev_f1, trial.learning_rate)).learning_rate


def score_run(
    arm: str, rate: float, seed: int, sentences: Sequence[LabelledSentence], predictions: Sequence[Pairs]
) -> Run:
    """Scores one student's predictions on every subset."""
    f1 = {}
    for subset in TEST_SUBSETS:
        chosen = positions(sentences, subset)
        gold = [gold_pairs(sentences[index]) for index in chosen]
        f1[subset] = 100 * tuple_f1(gold, [predictions[index] for index in chosen]).f1
    return Run(arm=arm, seed=seed, learning_rate=rate, f1=f1, predictions=tuple(map(tuple, predictions)))


def positions(sentences: Sequence[LabelledSentence], subset: Subset) -> list[int]:
    """Where the sentences of a subset stand."""
    return [index for index, sentence in enumerate(sentences) if select([sentence], subset)]


def gold_pairs(sentence: LabelledSentence) -> Pairs:
    """A sentence's distinct (term, polarity) pairs in their order."""
    return list(dict.fromkeys((str(aspect.target), aspect.polarity) for aspect in sentence.aspects))


def compare(sentences: Sequence[LabelledSentence], runs: Mapping[str, Sequence[Run]], seed: int) -> dict[str, Gain]:
    """The gain of the distilled student over the one from scratch on every subset that has sentences."""
    gains = {}
    for subset in TEST_SUBSETS:
        chosen = positions(sentences, subset)
        if not chosen:
            continue
        gold = [gold_pairs(sentences[index]) for index in chosen]
        scratch, distilled = ([[list(run.predictions[index]) for index in chosen] for run in runs[arm]] for arm in ARMS)
        difference = paired_bootstrap(gold, scratch, distilled, seed=seed)
        gains[subset] = Gain(mean=100 * difference.mean, low=100 * difference.low, high=100 * difference.high)
    return gains
