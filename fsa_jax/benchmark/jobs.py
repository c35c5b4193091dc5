"""The trainings of a benchmark: all seeds of a student on a share of one task's sentences, with one learning rate."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fsa_base import checksums
from fsa_base.disk import replacing
from fsa_jax.benchmark.processes import Command
from fsa_jax.benchmark.settings import OVERLAY, BenchmarkSettings
from fsa_jax.benchmark.students import Student
from fsa_jax.common.paths import DATA_DIR_VARIABLE
from fsa_jax.common.records import LabelledSentence
from fsa_jax.common.training_engine import KEEPING_MEMORY
from fsa_jax.data import benchmark_files
from fsa_jax.data.benchmark_files import task_of
from fsa_jax.evaluation.prediction_runs import RUN_FILE, RunKey, RunRecord
from fsa_jax.serving.prediction_record import LONGEST_OUTPUT

ROW = {"inputs": 256, "targets": 128}
"""Tokens of a row of the training batches of a T5. The sentences of a batch fit into two or three such rows, in which
fewer places stay empty than in rows of the recipe's lengths, 128 and 100. Neither cuts a sentence of the released
tasks."""

LONGEST_INPUT = 128
"""Tokens of a sentence, as in the recipe (TASK_FEATURE_LENGTHS)."""

_SHARE = """from __gin__ import dynamic_registration

from fsa_jax.data import train_subsets
from t5x import utils

train/utils.DatasetConfig.mixture_or_task_name = @train_subsets.training_share()
train_subsets.training_share:
  task = %MIXTURE_OR_TASK_NAME
  module = %MIXTURE_OR_TASK_MODULE
  fraction = %TRAIN_SHARE
  seed = %SHARE_SEED
"""
"""Trains on a share of the sentences; validation is unchanged."""

RESULT = "result.json"
"""What ``t5x.train_seeds`` writes for a seed that has ended."""


@dataclass(frozen=True)
class Dataset:
    """The sentences of a task.

    Attributes:
      name: its name, such as ``atsa/rest14``.
      root: data directory.
      training: number of training sentences.
      validation: number of validation sentences.
      test: test sentences, original and hard; empty if there are none.
    """

    name: str
    root: Path
    training: int
    validation: int
    test: tuple[LabelledSentence, ...]

    def identity(self) -> dict[str, str]:
        """Hashes of its files."""
        folder = self.root / "fsa" / self.name
        return {file.name: checksums.file_digest(file) for file in sorted(folder.glob("*.json"))}

    @property
    def kind(self) -> str:
        """The codec, such as ``atsa``."""
        return self.name.partition("/")[0]


def load_dataset(root: Path, name: str) -> Dataset:
    """Reads a task's sentences.

    Raises:
      FsaError: a file is missing or damaged.
    """
    folder = root / "fsa" / name
    training, validation = (len(benchmark_files.load(folder / file)) for file in ("train.json", "dev.json"))
    files = [folder / file for file in ("test.json", "hard_test.json") if (folder / file).is_file()]
    if files and name in benchmark_files.RELEASED:  # "all" is both together; loading a missing one is the error.
        files = [folder / "test.json", folder / "hard_test.json"]
    return Dataset(
        name, root, training, validation, tuple(sentence for file in files for sentence in benchmark_files.load(file))
    )


@dataclass(frozen=True)
class Job:
    """One training of several seeds.

    Attributes:
      output: output folder of the benchmark.
      student: the student.
      dataset: the task.
      share: share of the training sentences.
      rate: peak learning rate.
      seeds: random seeds.
      settings: the settings of the benchmark.
      together: seeds that are trained together.
    """

    output: Path
    student: Student
    dataset: Dataset
    share: float
    rate: float
    seeds: tuple[int, ...]
    settings: BenchmarkSettings
    together: int = 1

    def __str__(self) -> str:
        share = "" if self.share == 1 else f", {self.share:.0%} of the sentences"
        return f"{self.student.name} on {self.dataset.name}{share}, learning rate {self.rate:g}"

    def key(self, seed: int) -> RunKey:
        """The key of one run."""
        return RunKey(
            student=self.student.name, task=self.dataset.name, share=self.share, learning_rate=self.rate, seed=seed
        )

    def folder(self, seed: int) -> Path:
        """The folder of one run."""
        return self.output / self.key(seed).folder

    @property
    def directory(self) -> Path:
        """The folder of all its runs, MODEL_DIR of the training."""
        return self.folder(0).parent

    @property
    def training_sentences(self) -> int:
        """Number of training sentences in the share."""
        return max(1, int(self.dataset.training * self.share))

    @property
    def epoch_steps(self) -> int:
        """Steps of an epoch; the last incomplete batch is left to the next epoch."""
        return max(1, self.training_sentences // self.settings.batch_size)

    @property
    def steps(self) -> int:
        """Steps of one seed."""
        return self.epoch_steps * self.settings.epochs

    def result(self, seed: int) -> dict[str, Any] | None:
        """What the training of a seed found; None if it has not ended."""
        return json.loads((self.folder(seed) / RESULT).read_text()) if self.has_ended(seed) else None

    def has_ended(self, seed: int) -> bool:
        """Whether the training of a seed has ended."""
        return (self.folder(seed) / RESULT).is_file()

    @property
    def is_trained(self) -> bool:
        """Whether all seeds have ended."""
        return all(map(self.has_ended, self.seeds))

    def validation_f1(self, seed: int) -> float:
        """The best F1 of a seed on the validation sentences, in percent; below 0 if it has not ended."""
        result = self.result(seed)
        return max(result["scores"]) if result else -1.0

    def steps_done(self) -> int:
        """Steps of all seeds so far, each counted once for each seed."""
        done = sum(self.steps for seed in self.seeds if self.has_ended(seed))
        progress = self.directory / "progress.json"
        if progress.is_file():
            found = json.loads(progress.read_text())
            done += sum(found["step"] for seed in found["seeds"] if not self.has_ended(seed))
        return done

    def record(self, seed: int, device: str, error: str | None = None) -> RunRecord:
        """The record of one run, from what its training found."""
        found = self.result(seed) or {}
        return RunRecord(
            **self.key(seed).model_dump(),
            error=error,
            epochs=len(found.get("scores", ())),
            validation_f1=tuple(found.get("scores", ())),
            losses=tuple(found.get("losses", ())),
            best_epoch=found.get("best_epoch") or None,
            training_sentences=self.training_sentences,
            seconds=found.get("seconds", 0.0),
            together=tuple(found.get("together", ())),
            device=device,
        )

    def write_record(self, record: RunRecord) -> None:
        """Writes ``run.json`` of a run."""
        folder = self.output / record.folder
        folder.mkdir(parents=True, exist_ok=True)
        with replacing(folder / RUN_FILE) as partial:
            partial.write_text(record.model_dump_json())

    def command(self, flags: Sequence[str], measure: Sequence[int] = (), directory: Path | None = None) -> Command:
        """The command that trains its seeds, or measures groups of some sizes.

        Args:
          flags: further flags of the engine.
          measure: sizes of groups to measure instead of training.
          directory: MODEL_DIR in place of its own.
        """
        place = directory or self.directory
        task = task_of(self.dataset.name, chat=self.student.chat)
        share = {} if self.share == 1 else {"TRAIN_SHARE": self.share, "SHARE_SEED": self.settings.share_seed}
        bindings = {
            **self.student.bindings,
            "MODEL_DIR": str(place),
            "MIXTURE_OR_TASK_NAME": task,
            "INITIAL_CHECKPOINT_PATH": str(self.student.checkpoint or ""),
            "TRAIN_STEPS": self.steps,
            "EVAL_PERIOD": self.epoch_steps,
            "BATCH_SIZE": self.settings.batch_size,
            "LEARNING_RATE": self.rate,
        }
        if not self.student.chat:
            longest = LONGEST_OUTPUT[self.dataset.kind]
            bindings["train/utils.DatasetConfig.task_feature_lengths"] = {
                **ROW,
                "targets": max(ROW["targets"], longest),
            }
            bindings["TASK_FEATURE_LENGTHS"] = {"inputs": LONGEST_INPUT, "targets": longest}
        files = [*self.student.gin_files, OVERLAY]
        if share:
            place.mkdir(parents=True, exist_ok=True)
            (place / "share.gin").write_text(_SHARE)
            files.append(str(place / "share.gin"))
        words = [
            sys.executable,
            "-m",
            "t5x.train_seeds",
            *(f"--gin_file={file}" for file in files),
            *(f"--gin.{name}={value!r}" for name, value in {**bindings, **share}.items()),
            f"--seeds={','.join(map(str, self.seeds))}",
            f"--together={min(self.together, len(self.seeds))}",
            *([f"--measure_together={','.join(map(str, measure))}"] if measure else []),
            *flags,
        ]
        return Command(tuple(words), self.environment(), Path.cwd(), place / "log.txt")

    def environment(self) -> dict[str, str]:
        """The environment of its commands."""
        data = {DATA_DIR_VARIABLE: str(self.dataset.root)}
        return {**KEEPING_MEMORY, **os.environ, **data, **self.student.environment}
