"""The results of the demo: scores of the runs, their comparison, and the JSON file that stores them."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence

from fsa_jax.common.records import LabelledSentence, Record
from fsa_jax.evaluation.compare import paired_bootstrap
from fsa_jax.evaluation.released_rule import tuple_f1
from fsa_jax.evaluation.subsets import Subset, select

ARMS = ("scratch", "distilled")
"""The student that is trained only on labelled sentences, and the one that is distilled first."""

TEST_SUBSETS: tuple[Subset, ...] = ("original", "hard", "implicit", "multi")
"""The subsets in the table; the first two are the easy and the hard test set."""

Pairs = list[tuple[str, str]]


class Run(Record):
    """The test scores of one fine-tuned student."""

    arm: str
    seed: int
    learning_rate: float
    f1: dict[str, float]
    """F1 in percent by subset."""
    predictions: tuple[tuple[tuple[str, str], ...], ...]


class Trial(Record):
    """One fine-tuning run of the search for the learning rate: F1 on the dev sentences in percent, by step."""

    arm: str
    seed: int
    learning_rate: float
    curve: tuple[tuple[int, float], ...]

    @property
    def dev_f1(self) -> float:
        """Dev F1 at the end of the training, which gives the student that is tested."""
        return self.curve[-1][1]


class Gain(Record):
    """The gain from distillation on a subset, in F1 points, with its 95 % confidence interval."""

    mean: float
    low: float
    high: float


class Results(Record):
    """All measurements of the demo."""

    runs: tuple[Run, ...]
    trials: tuple[Trial, ...]
    gains: dict[str, Gain]
    counts: dict[str, int]
    """Number of sentences by subset."""
    distillation: tuple[tuple[int, float], ...]
    """Training loss per target token by step."""

    def of(self, arm: str) -> list[Run]:
        return [run for run in self.runs if run.arm == arm]

    def mean(self, arm: str, subset: str) -> float:
        return statistics.mean(run.f1[subset] for run in self.of(arm))

    def deviation(self, arm: str, subset: str) -> float:
        """Sample standard deviation over seeds; 0 for a single seed."""
        values = [run.f1[subset] for run in self.of(arm)]
        return statistics.stdev(values) if len(values) > 1 else 0.0


def best_rate(trials: Sequence[Trial], arm: str) -> float:
    """The learning rate with the best dev F1 in the search of an arm; of equals, the smaller one."""
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
    """The indices of the sentences of a subset."""
    return [index for index, sentence in enumerate(sentences) if select([sentence], subset)]


def gold_pairs(sentence: LabelledSentence) -> Pairs:
    """The distinct (term, polarity) pairs of a sentence, in order."""
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
