"""Outputs of a benchmark with made predictions, for the tests of the comparison."""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path

from fsa_jax.evaluation.prediction_runs import (
    PREDICTIONS_FILE,
    RUN_FILE,
    RunRecord,
    SentencePrediction,
    write_predictions,
)

WORDS = ("pizza", "service", "wine", "view")


def predictions(skill: float, seed: int, sentences: int = 40) -> list[SentencePrediction]:
    """Predictions of which a share of ``skill`` is right; the sentences are always the same."""
    of_run, of_test = random.Random(f"{seed} {skill}"), random.Random(0)
    made = []
    for number in range(sentences):
        words = of_test.sample(WORDS, of_test.randint(1, 3))
        gold = tuple((f"good {word}", of_test.choice(["positive", "negative"])) for word in words)
        guess = tuple(
            pair
            if of_run.random() < skill
            else (pair[0].removeprefix("good "), pair[1])
            if of_run.random() < 0.3
            else (pair[0], "neutral")
            for pair in gold
        )
        subsets = ("all", "hard" if number % 3 == 0 else "original", *(["multi"] if len(dict(gold)) > 2 else []))
        made.append(
            SentencePrediction(
                id=f"s{number}",
                text=f"They have {' and '.join(term for term, _ in gold)}.",
                gold=gold,
                predicted=guess,
                generated="",
                subsets=subsets,
            )
        )
    return made


def write_run(
    output: Path, student: str, skill: float | None, seed: int, task: str = "atsa/rest14", **settings
) -> Path:
    """Writes a run, without predictions if there is no skill; returns its folder."""
    record = RunRecord(student=student, task=task, seed=seed, **{"learning_rate": 3e-4, **settings})
    folder = output / record.folder
    folder.mkdir(parents=True)
    (folder / RUN_FILE).write_text(record.model_dump_json(), encoding="utf-8")
    if skill is not None:
        write_predictions(folder / PREDICTIONS_FILE, predictions(skill, seed))
    return folder


def write_output(output: Path, skills: dict[str, float], seeds: Sequence[int] = (42, 52, 62)) -> Path:
    """Writes an output of a benchmark with one task."""
    for student, skill in skills.items():
        for seed in seeds:
            write_run(output, student, skill, seed)
    return output
