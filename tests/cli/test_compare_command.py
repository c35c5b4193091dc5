"""``fsa compare`` as a user runs it."""

from __future__ import annotations

import json
import random

import pytest

from fsa_jax.cli.main import main
from fsa_jax.evaluation.prediction_runs import (
    PREDICTIONS_FILE,
    RUN_FILE,
    RunRecord,
    SentencePrediction,
    write_predictions,
)


@pytest.fixture
def output(tmp_path):
    """An output of a benchmark with two students and three seeds, one of which failed for one student."""
    gold = (("pizza", "positive"),)
    for student, skill in (("scratch", 0.3), ("distilled", 0.8)):
        for seed in (42, 52, 62):
            rng = random.Random(f"{student} {seed}")
            failed = (student, seed) == ("scratch", 62)
            record = RunRecord(
                student=student,
                task="atsa/rest14",
                learning_rate=3e-4,
                seed=seed,
                error="disk full" if failed else None,
            )
            folder = tmp_path / "out" / record.folder
            folder.mkdir(parents=True)
            (folder / RUN_FILE).write_text(record.model_dump_json(), encoding="utf-8")
            if not failed:
                made = [
                    SentencePrediction(
                        id=f"s{number}",
                        text="Good pizza",
                        gold=gold,
                        predicted=gold if rng.random() < skill else (),
                        generated="",
                        subsets=("all", "original"),
                    )
                    for number in range(60)
                ]
                write_predictions(folder / PREDICTIONS_FILE, made)
    return tmp_path / "out"


def test_two_students_of_an_output(output, tmp_path, capsys):
    files = [str(tmp_path / name) for name in ("c.md", "c.tex", "c.json")]
    options = ["--resamples", "500", "--markdown", files[0], "--latex", files[1], "--json", files[2]]
    assert main(["compare", f"{output}:scratch", f"{output}:distilled", "--scoring", "exact", *options]) == 0
    printed = capsys.readouterr().out
    assert "distilled against scratch" in printed
    assert "scratch, atsa/rest14, share 1, seed 62: failed: disk full" in printed
    report = json.loads((tmp_path / "c.json").read_text())
    assert [(row["subset"], row["scoring"]) for row in report["comparisons"]] == [
        ("all", "exact"),
        ("original", "exact"),
    ]
    row = report["comparisons"][0]
    assert (row["first"]["seeds"], row["second"]["seeds"]) == ([42, 52], [42, 52, 62])
    assert f"{row['difference']:+.1f}" in printed
    assert f"{row['difference']:+.1f}" in (tmp_path / "c.md").read_text()
    assert f"{row['difference']:+.1f}" in (tmp_path / "c.tex").read_text()
    assert main(["compare", str(output), "--subset", "all", "--resamples", "100"]) == 0


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["{out}:other", "{out}"], "one of distilled, scratch"),
        (["{out}:scratch"], "at least two students"),
        (["{out}", "--subset", "easy"], "expected 'all'"),
        (["{out}", "--scoring", "loose"], "exact|tolerant"),
        (["{out}", "--resamples", "10"], "a whole number of at least 100"),
        (["{out}", "--confidence", "95"], "a number from 0.5 to 0.999"),
        (["{out}", "--json", "{out}/none/c.json"], "a file in an existing folder"),
    ],
)
def test_unusable_words_are_refused(output, capsys, words, told):
    assert main(["compare", *(word.format(out=output) for word in words)]) == 2
    assert told in capsys.readouterr().err
