"""The command of ``fsa train``: chooses the recipe of gin/ and its settings from options and what the data contain."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fsa_base.errors import SettingError, require_choice, require_number
from fsa_jax.common.paths import DATA_DIR_VARIABLE, STUDENT_VARIABLE
from fsa_jax.data import benchmark_files
from fsa_jax.data.benchmark_files import task_of
from fsa_jax.data.own_labels import labels_of
from fsa_jax.tokenizers.t5 import ROW_PADDING, ROWS, VOCABULARY_VARIABLE, T5Tokenizer, configured_vocabulary
from fsa_jax.training import earlier_run
from fsa_jax.training.earlier_run import EarlierRun
from fsa_jax.training.engine_command import EngineCommand, refuse_bound_names
from fsa_jax.training.found_data import FoundData
from fsa_jax.training.recipes import CHAT, SIZES
from fsa_jax.training.starting_point import StartingPoint, model_dir, size_of_run

FINETUNING_BATCH = 16
"""BATCH_SIZE of all recipes gin/finetune_*.gin."""
EPOCHS = 20
"""Epochs of fine-tuning, from the paper."""
CHAT_EPOCHS = 5
_LONG_TARGETS = {"tasd": 160, "asqp": 200}
"""Longest targets in tokens of triples and quadruples; the recipes' 100 are for pairs."""
GIN_OPTIONS = {
    "MODEL_DIR": "--student",
    "MIXTURE_OR_TASK_NAME": "--task",
    "INITIAL_CHECKPOINT_PATH": "--from",
    "TRAIN_STEPS": "--steps",
    "BATCH_SIZE": "--batch-size",
    "LEARNING_RATE": "--learning-rate",
    "RANDOM_SEED": "--seed",
    "VOCABULARY_ROWS": "--vocabulary",
}
"""The options for gin names that may not be bound by hand."""


@dataclass(frozen=True)
class TrainOptions:
    """The options of ``fsa train`` that are not about finding files; None means the recipe's own value."""

    student: str
    size: str | None = None
    stage: str | None = None
    task: str | None = None
    steps: int | None = None
    batch_size: int | None = None
    learning_rate: float | None = None
    seed: int | None = None
    vocabulary: Path | None = None
    dry_run: bool = False
    engine_flags: Sequence[str] = ()

    def __post_init__(self) -> None:
        if self.size is not None:
            require_choice("--size", self.size, SIZES, "{setting} {choice}")
        if self.stage is not None:
            require_choice("--stage", self.stage, ("distill", "finetune"), "{setting} {choice}")
        for name in ("steps", "batch_size", "learning_rate"):
            option = f"--{name.replace('_', '-')}"
            require_number(option, getattr(self, name), 0, above=True, whole=name != "learning_rate")


@dataclass(frozen=True)
class Labels:
    """An FSA dataset to fine-tune on, such as ``atsa/rest14``, with its numbers of sentences."""

    name: str
    training: int
    dev: int


def train_command(options: TrainOptions, data: FoundData, start: StartingPoint | None = None) -> EngineCommand:
    """Returns the command that trains the student.

    Args:
      options: the options of the command line.
      data: what the data directory contains.
      start: the checkpoint to start from; None to start with random weights.

    Raises:
      FsaError: options do not fit together, the data do not have what they need, or MODEL_DIR has another run.
    """
    refuse_bound_names(options.engine_flags, GIN_OPTIONS)
    labels = labels_of(options.task, data.labels) if options.task else None
    stage = _stage(options, data, labels)
    size = _size(options, start)
    bindings: dict[str, Any] = {"MODEL_DIR": model_dir(options.student)}
    run = earlier_run.find(bindings["MODEL_DIR"])
    if start is not None:
        checkpoint = str(start.checkpoint)
        bindings["INITIAL_CHECKPOINT_PATH"] = earlier_run.start_of(run, checkpoint) if run else checkpoint
    bindings |= (
        _finetuning(options, _load(labels or _only(options, data), data), size)
        if stage == "finetune"
        else _distillation(options, data, size)
    )
    given = {
        "BATCH_SIZE": options.batch_size,
        "LEARNING_RATE": options.learning_rate,
        "RANDOM_SEED": options.seed,
    }
    bindings |= {name: value for name, value in given.items() if value is not None}
    environment = {DATA_DIR_VARIABLE: str(data.root)}
    if size == CHAT:
        environment |= _student(options, start)
    else:
        vocabulary = _vocabulary(options, data, run, start)
        if vocabulary is not None:
            environment[VOCABULARY_VARIABLE] = str(vocabulary)
            bindings |= _rows(vocabulary)
    if run is not None:
        earlier_run.require_same(run, bindings, environment, (size, size_of_run(run.config)))
        if run.step is not None and options.steps is not None and options.steps < run.step:
            raise SettingError(
                f"--steps {options.steps}",
                expected=f"{run.step} or more, the step of the newest checkpoint in {run.directory}",
                found="less",
                fix="raise --steps, or train another student: --student ANOTHER-NAME",
            )
    flags = [*(["--dry_run"] if options.dry_run else []), *options.engine_flags]
    return EngineCommand("t5x.train", [f"gin/{stage}_{size}.gin"], bindings, environment, flags)


def _stage(options: TrainOptions, data: FoundData, labels: str | None) -> str:
    stage = options.stage or ("finetune" if labels or not data.mixture else "distill")
    if stage == "distill" and not data.mixture:
        raise SettingError(
            "--stage distill",
            expected="teacher text in --data: a corpus of fsa corpus, or teacher/*.jsonl",
            found=str(data),
            fix="fsa corpus CHECKED DIR, then --data DIR; or --stage finetune",
        )
    if stage == "finetune" and not data.labels:
        raise SettingError(
            "--stage finetune",
            expected="labelled sentences in --data: fsa/{atsa,acsa,tasd,asqp}/NAME/{train,dev}.json",
            found=str(data),
            fix="put the labels there (docs/data.md), or --stage distill",
        )
    if options.task and not labels and (stage == "finetune" or not options.task.startswith("fsa_")):
        if not data.labels:
            raise SettingError(
                f"--task {options.task}",
                expected="a task of tasks.py, such as fsa_corpus, or the name of labels in --data: "
                "fsa/{atsa,acsa,tasd,asqp}/NAME/{train,dev}.json",
                found=str(data),
                fix="put the labels there (docs/data.md), or give the --data that has them",
            )
        words = [name.split("/")[1] for name in data.labels] + ([data.mixture] if stage == "distill" else [])
        require_choice("--task", options.task, filter(None, words), "{setting} {choice}")
    if labels and stage == "distill":
        raise SettingError(
            f"--task {options.task}",
            expected="a task of teacher text for --stage distill",
            found="labelled sentences",
            fix=f"--stage finetune, or --task {data.mixture}",
        )
    return stage


def _size(options: TrainOptions, start: StartingPoint | None) -> str:
    found = start.size if start else None
    sizes = ", ".join(f"{name} ({size.hardware})" for name, size in SIZES.items())
    if start and found is None:
        raise SettingError(
            f"--from {start.checkpoint}",
            expected=f"a T5 v1.0 or student of the size {sizes}, or a decoder-only model",
            found="a network without a recipe",
            fix="train it with the engine: a file of gin/models, and gin/shared/finetune.gin (docs/engine.md)",
        )
    if options.size is None and found is None:
        raise SettingError("--size", expected=sizes, found="none", fix="--size 10m")
    if options.size and found and options.size != found:
        assert start is not None
        raise SettingError(
            f"--size {options.size}",
            expected=f"the size of {start.checkpoint}, from which the student starts",
            found=f"its size is {found}",
            fix="leave out --size",
        )
    return options.size or str(found)


def _only(options: TrainOptions, data: FoundData) -> str:
    first, *others = data.labels
    if others:
        words = [name.split("/")[1] for name in data.labels]
        raise SettingError("--task", expected=" or ".join(words), found="none", fix=f"--task {words[0]}")
    return first


def _load(name: str, data: FoundData) -> Labels:
    folder = data.root / "fsa" / name
    counts = [len(benchmark_files.load(folder / file)) for file in ("train.json", "dev.json")]
    return Labels(name, *counts)


def _finetuning(options: TrainOptions, labels: Labels, size: str) -> dict[str, Any]:
    """Validation after every epoch; the number of steps of an epoch depends on the number of sentences."""
    batch = options.batch_size or FINETUNING_BATCH
    epoch = max(1, labels.training // batch)
    steps = options.steps or epoch * (CHAT_EPOCHS if size == CHAT else EPOCHS)
    task = task_of(labels.name, chat=size == CHAT)
    bindings: dict[str, Any] = {
        "MIXTURE_OR_TASK_NAME": task,
        "TRAIN_STEPS": steps,
        "EVAL_PERIOD": min(epoch, steps),
        "EVAL_STEPS": max(1, labels.dev // batch),
        "BEST_BY": f"inference_eval/{task}/f1",
    }
    if longest := _LONG_TARGETS.get(labels.name.split("/")[0]):
        bindings["TASK_FEATURE_LENGTHS"] = {"inputs": 192 if size == CHAT else 128, "targets": longest}
    return bindings


def _distillation(options: TrainOptions, data: FoundData, size: str) -> dict[str, Any]:
    mixture = options.task or str(data.mixture)
    if size == CHAT:
        if not data.teacher_files:
            raise SettingError(
                "--data",
                expected="teacher/*.jsonl, from which decoder-only students are distilled",
                found=str(data),
                fix="copy the teacher text in the papers' layout to DIR/teacher, or start from a T5",
            )
        mixture = options.task or "fsa_chat_distill"
    bindings: dict[str, Any] = {"MIXTURE_OR_TASK_NAME": mixture}
    if options.steps is not None:
        bindings["TRAIN_STEPS"] = options.steps
        period = SIZES[size].period if size in SIZES else None
        if period is not None and options.steps < period:
            bindings["PERIOD"] = options.steps
    return bindings


def refuse_vocabulary(vocabulary: Path | None) -> None:
    """Raises SettingError if a vocabulary is given for a decoder-only student."""
    if vocabulary is not None:
        raise SettingError(
            "--vocabulary",
            expected="none: a decoder-only student has the tokenizer of its model",
            found=str(vocabulary),
            fix="leave out --vocabulary",
        )


def _student(options: TrainOptions, start: StartingPoint | None) -> dict[str, str]:
    refuse_vocabulary(options.vocabulary)
    imported = (start.environment if start else {}).get(STUDENT_VARIABLE) or os.environ.get(STUDENT_VARIABLE)
    if not start or not imported:
        raise SettingError(
            "--from",
            expected="an imported decoder-only student, or a run that fsa train started from one",
            found=str(start.checkpoint) if start else "none",
            fix=f"fsa import-hf Qwen/Qwen2.5-0.5B-Instruct weights/qwen, then --from weights/qwen; for a run that was "
            f"started by hand, set {STUDENT_VARIABLE}=weights/qwen",
        )
    return {STUDENT_VARIABLE: imported}


def _vocabulary(
    options: TrainOptions, data: FoundData, run: EarlierRun | None, start: StartingPoint | None
) -> Path | None:
    """The SentencePiece model to name in the command; None if the engine is to download T5's.

    The weights of a run, or those to start from, are useless with another vocabulary than their own, so that comes
    before the environment.
    """
    if options.vocabulary is not None:
        return options.vocabulary
    for weights in (run, start):
        if weights and VOCABULARY_VARIABLE in weights.environment:
            return Path(weights.environment[VOCABULARY_VARIABLE])
    if os.environ.get(VOCABULARY_VARIABLE):
        return configured_vocabulary()
    return data.vocabulary or configured_vocabulary()


def _rows(vocabulary: Path) -> dict[str, int]:
    rows = -(-T5Tokenizer(vocabulary).size // ROW_PADDING) * ROW_PADDING
    return {} if rows == ROWS else {"VOCABULARY_ROWS": rows}
