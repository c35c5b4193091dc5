"""Simulates fsa compare where the truth is known: how often do its tests reject, without and with a difference?

    python -m benchmarks compare_null

Students are simulated as runs on a test set: sentences with 1 to 4 gold tuples and a difficulty that all runs share,
tuples that are harder or easier than their sentence, wrong tuples in place of missed ones, and invented tuples. A seed
shifts the F1 that its run has in expectation, by a normal deviation with the stated size in F1 points; the F1 that is
measured varies more, because the test set is finite. Sentences are drawn anew in every trial.
"""

from __future__ import annotations

import argparse
import datetime
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial

import numpy as np
from scipy import stats

from fsa_jax.evaluation.checkpoint_tests import mcnemar_of_runs, sentence_permutation_p
from fsa_jax.evaluation.compare import compare_counts
from fsa_jax.evaluation.tuple_counts import f1_of_totals

TESTS = ("permutation", "interval", "Welch's t of F1", "sentences alone", "McNemar")
"""The first two hold for other seeds and sentences, and the first decides."""
LEVEL = 0.05


@dataclass(frozen=True)
class World:
    """A test set of sentences with up to four gold tuples each."""

    gold: np.ndarray
    """Number of gold tuples, shape (sentences,)."""
    ease: np.ndarray
    """Log-odds of each tuple to be predicted, shape (sentences, 4)."""
    invented: np.ndarray
    """Mean number of invented tuples, shape (sentences,)."""


def world(sentences: int, rng: np.random.Generator) -> World:
    """Draws a test set: 55, 27, 12 and 6% of the sentences have 1, 2, 3 and 4 tuples."""
    gold = rng.choice(4, p=[0.55, 0.27, 0.12, 0.06], size=sentences) + 1
    ease = rng.normal(0.9, 1.6, size=(sentences, 1)) + rng.normal(0, 1.2, size=(sentences, 4))
    return World(gold, ease, np.exp(rng.normal(-2.5, 1, size=sentences)))


def runs(test_set: World, skills: np.ndarray, own_ease: float, rng: np.random.Generator) -> np.ndarray:
    """Counts of runs, shape (runs, sentences, 4), as in ``tuple_counts``.

    Args:
      test_set: the sentences.
      skills: what each run adds to the log-odds of all tuples.
      own_ease: standard deviation of what the student, in all its runs, adds to the log-odds of a sentence.
      rng: the random generator.
    """
    ease = test_set.ease + own_ease * rng.standard_normal((len(test_set.gold), 1))
    chance = 1 / (1 + np.exp(-(ease + skills[:, None, None])))
    there = np.arange(4) < test_set.gold[:, None]
    hit = rng.random(chance.shape) < chance
    right = (hit & there).sum(axis=-1)
    wrong = (~hit & there & (rng.random(chance.shape) < 0.7)).sum(axis=-1) + rng.poisson(test_set.invented, right.shape)
    return np.stack([right, right + wrong, right, np.broadcast_to(test_set.gold, right.shape)], axis=-1)


def points_by_skill() -> tuple[np.ndarray, np.ndarray]:
    """Skills, and the expected F1 of each in points, from a test set so large that its F1 is nearly exact."""
    skills = np.linspace(-1, 1, 21)
    large = world(100_000, np.random.default_rng(0))
    # The same draws for all skills, so that the curve is smooth.
    counts = [runs(large, skill[None], 0, np.random.default_rng(1)).sum(axis=1) for skill in skills]
    return skills, 100 * f1_of_totals(np.concatenate(counts))


@dataclass(frozen=True)
class Setting:
    """What is true in a simulation; F1 in points."""

    seeds: int
    deviations: tuple[float, float]
    """Between the seeds of the two students."""
    difference: float = 0.0
    own_ease: float = 0.0
    """Log-odds by which the students differ on a sentence, on average by none."""

    def __str__(self) -> str:
        first, second = self.deviations
        deviation = f"{first:g}" if first == second else f"{first:g} and {second:g}"
        return f"| {self.seeds} | {deviation} | {self.own_ease:g} | {self.difference:g} "


def trial(
    setting: Setting, curve: tuple[np.ndarray, np.ndarray], sentences: int, resamples: int, seed: int
) -> list[bool]:
    """Which tests reject in one trial, in the order of ``TESTS``."""
    # Every setting has its own draws, so that their results are independent.
    rng = np.random.default_rng([seed, *str(setting).encode()])
    test_set = world(sentences, rng)
    level = float(np.interp(0.0, *curve))
    arms = []
    for points, deviation in zip((level, level + setting.difference), setting.deviations, strict=True):
        skills = np.interp(rng.normal(points, deviation, size=setting.seeds), curve[1], curve[0])
        arms.append(runs(test_set, skills, setting.own_ease, rng))
    first, second = arms
    found = compare_counts(first, second, resamples, seed=seed)
    f1 = [model.f1 for model in found.components.models]
    p = (
        stats.ttest_ind(*f1, equal_var=False).pvalue,
        sentence_permutation_p(first, second, resamples, seed),
        mcnemar_of_runs(first[0], second[0]).p,
    )
    assert found.p is not None
    return [found.p <= LEVEL, found.difference.is_significant, *(value <= LEVEL for value in p)]


def rejections(
    setting: Setting, curve: tuple[np.ndarray, np.ndarray], trials: int, sentences: int, resamples: int
) -> np.ndarray:
    """The share of trials in which each test rejects, shape (5,)."""
    one = partial(trial, setting, curve, sentences, resamples)
    return np.array([one(seed) for seed in range(trials)]).mean(axis=0)


def settings() -> dict[str, list[Setting]]:
    """The simulations by what they show."""
    counts = (3, 10)
    return {
        "no difference: two students are seeds of one recipe": [
            Setting(seeds, (deviation, deviation)) for seeds in counts for deviation in (0.0, 1.0, 2.0)
        ],
        "no difference on average, but not one recipe": [
            Setting(seeds, deviations, own_ease=own)
            for seeds in counts
            for deviations, own in (((0.0, 2.0), 0.0), ((1.0, 1.0), 1.0))
        ],
        "a difference": [
            Setting(seeds, (1.0, 1.0), difference) for seeds in counts for difference in (1.0, 2.0, 4.0, 6.0)
        ],
    }


def main() -> None:
    """Prints a Markdown table for each kind of simulation."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=2000, help="of each null with one recipe")
    parser.add_argument("--other-trials", type=int, default=500, help="of each other simulation")
    parser.add_argument("--sentences", type=int, default=600)
    parser.add_argument("--resamples", type=int, default=999)
    parser.add_argument("--processes", type=int, default=1)
    options = parser.parse_args()
    # Only a script finds it; the tests import this module.
    from _machine import processor

    start, curve = time.monotonic(), points_by_skill()
    print(f"{datetime.date.today()}, {processor()}, {options.sentences} sentences, {options.resamples} resamples\n")
    with ProcessPoolExecutor(options.processes) as pool:
        for number, (title, group) in enumerate(settings().items()):
            trials = options.other_trials if number else options.trials
            print(f"{title} ({trials} trials); rejections at {LEVEL:.0%}:\n")
            print(f"| seeds | deviation | own ease | difference | {' | '.join(TESTS)} |")
            print(f"| ---: | ---: | ---: | ---: |{' ---: |' * len(TESTS)}")
            sizes = {"trials": trials, "sentences": options.sentences, "resamples": options.resamples}
            one = partial(rejections, curve=curve, **sizes)
            for setting, shares in zip(group, pool.map(one, group), strict=True):
                print(f"{setting}| {' | '.join(f'{share:.1%}' for share in shares)} |", flush=True)
            print()
    print(f"{time.monotonic() - start:.0f} s in {options.processes} processes")


if __name__ == "__main__":
    main()
