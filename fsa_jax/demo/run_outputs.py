"""Reads the outputs of the demo's runs."""

from __future__ import annotations

import json
import os
import platform
from importlib import metadata
from pathlib import Path

from fsa_base.errors import DataError
from fsa_base.runs import read_rows
from fsa_jax.common.records import LabelledSentence
from fsa_jax.data import benchmark_files
from fsa_jax.demo.commands import TASK
from fsa_jax.demo.page import Lesson
from fsa_jax.demo.plan import Finetuning
from fsa_jax.demo.results import ARMS, TEST_SUBSETS, Pairs, Results, Trial, compare, positions, score_run
from fsa_jax.demo.settings import DemoSettings, Layout
from fsa_jax.synthetic.files import RESPONSE_KEY, TEACHER_FILE
from fsa_jax.text.analysis import is_analysis

# The student's LOSS_NORMALIZING_FACTOR makes this the average over target tokens.
_LOSS = "cross_ent_loss"
_PACKAGES = ("fsa-jax", "jax", "flax", "optax", "orbax-checkpoint", "seqio", "tensorflow", "sentencepiece", "numpy")


def trial(layout: Layout, run: Finetuning) -> Trial:
    """The dev scores of one fine-tuning."""
    arm, rate, seed = run
    metrics = layout.finetuned(*run) / "inference_eval" / f"{TASK}-metrics.jsonl"
    by_step = {int(row["step"]): row["f1"] for row in read_rows(metrics)}
    if not by_step:
        raise DataError(metrics, expected="F1 on the dev sentences", found="no row", fix=f"delete {layout.root}")
    return Trial(arm=arm, seed=seed, learning_rate=rate, curve=tuple(sorted(by_step.items())))


def test_sentences(layout: Layout) -> list[LabelledSentence]:
    """The easy and the hard test sentences, in the order of the task."""
    folder = layout.data / "fsa" / "atsa" / "rest14"
    return [*benchmark_files.load(folder / "test.json"), *benchmark_files.load(folder / "hard_test.json")]


def predictions(layout: Layout, run: Finetuning, sentences: list[LabelledSentence]) -> list[Pairs]:
    """The pairs that one fine-tuned student predicts for each sentence.

    Raises:
      DataError: the predictions are missing, or are about other sentences.
    """
    folder = layout.tested(*run) / "inference_eval"
    files = sorted(folder.glob(f"{TASK}-[0-9]*.jsonl"))
    rows = [json.loads(line) for line in files[-1].read_text().splitlines()] if files else []
    by_id = {row["input"]["id"]: row["prediction"] for row in rows}
    missing = [sentence.id for sentence in sentences if sentence.id not in by_id]
    if missing or len(rows) != len(sentences):
        raise DataError(
            folder,
            expected=f"predictions for {len(sentences)} test sentences",
            found=f"{len(rows)}",
            fix=f"delete {layout.tested(*run)} and start the demo again",
        )
    return [[(term, polarity) for term, polarity in by_id[sentence.id]] for sentence in sentences]


def measure(
    settings: DemoSettings,
    layout: Layout,
    sentences: list[LabelledSentence],
    trials: list[Trial],
    finals: list[Finetuning],
) -> Results:
    """Scores and compares the final students."""
    runs = [score_run(*run, sentences, predictions(layout, run, sentences)) for run in finals]
    by_arm = {arm: [run for run in runs if run.arm == arm] for arm in ARMS}
    losses = read_rows(layout.distilled / "train" / "metrics.jsonl")
    return Results(
        runs=tuple(runs),
        trials=tuple(trials),
        gains=compare(sentences, by_arm, seed=settings.world_seed),
        counts={subset: len(positions(sentences, subset)) for subset in TEST_SUBSETS},
        distillation=tuple((int(row["step"]), row[_LOSS]) for row in losses),
    )


def lesson(layout: Layout) -> Lesson:
    """The first review that has both an analysis and a rewriting."""
    texts: dict[int, dict[bool, str]] = {}
    with (layout.data / TEACHER_FILE).open(encoding="utf-8-sig") as lines:
        for line in lines:
            row = json.loads(line)
            both = texts.setdefault(row["ID"], {})
            both[is_analysis(row[RESPONSE_KEY])] = row[RESPONSE_KEY]
            if len(both) == 2 and len(row["Text"]) > 80:
                return Lesson(row["Text"], row["Overall"], analysis=both[True], rewriting=both[False])
    raise DataError(
        layout.data / TEACHER_FILE,
        expected="a review with an analysis and a rewriting",
        found="none",
        fix="generate more reviews",
    )


def parameters(layout: Layout) -> int:
    """Number of parameters of the student, from its model-info.txt."""
    text = (layout.distilled / "model-info.txt").read_text()
    return int(text.split("Total number of parameters:")[1].split()[0].replace(",", ""))


def versions() -> list[tuple[str, str]]:
    """Versions of Python and of the packages that influence the result."""
    return [("Python", platform.python_version()), *((name, metadata.version(name)) for name in _PACKAGES)]


def hardware() -> list[tuple[str, str]]:
    """Processor, cores and memory, as far as the system reports them."""
    found = [("system", f"{platform.system()} {platform.machine()}"), ("cores", str(os.cpu_count()))]
    information = Path("/proc/cpuinfo")
    if information.exists():
        models = [
            line.split(":", 1)[1].strip() for line in information.read_text().splitlines() if "model name" in line
        ]
        found += [("processor", model) for model in models[:1]]
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return [*found, ("memory", f"{memory:.0f} GiB")]
