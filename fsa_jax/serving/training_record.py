"""How a student was trained, from the files of its run and of the runs before it: settings, teacher text, scores."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fsa_base import checkpoint_files, runs
from fsa_base.run_config import CONFIG, Reference, RunConfig, read_config
from fsa_jax.serving.student import read_json
from fsa_jax.serving.training_corpus import TrainingCorpus, find_corpus, is_teacher_text
from fsa_jax.text.tuples import CODECS
from fsa_jax.weights.import_model import RECORD as IMPORT_RECORD

_FSA_TASKS = (
    "fsa_benchmark",
    *(f"fsa_{chat}{name}" for chat in ("", "chat_") for name in (*CODECS, "labels")),
)
_SETTINGS = (
    ("Batch size", "DatasetConfig.batch_size"),
    ("Longest texts in tokens", "DatasetConfig.task_feature_lengths"),
    ("Packed rows in tokens", "BestFitEncDecFeatureConverter.row_lengths"),
    ("Optimizer", "OptaxWrapper.optax_optimizer"),
    ("Learning rate", "Trainer.learning_rate_fn"),
    ("Dropout", "T5Config.dropout_rate"),
    ("Random seed", "train.random_seed"),
)
"""Rows of a model card, and the arguments in config.gin that they show."""


@dataclass(frozen=True)
class Stage:
    """One training run.

    Attributes:
      kind: ``Distillation``, ``Fine-tuning`` or ``Training``.
      task: SeqIO task or mixture; empty if unknown.
      step: number of steps of the checkpoint that was used; 0 if unknown.
      settings: further settings, as texts by title.
      corpus: teacher text; None if the run had none, or if it is unknown.
    """

    kind: str
    task: str
    step: int
    settings: dict[str, str]
    corpus: TrainingCorpus | None


@dataclass(frozen=True)
class Score:
    """A metric of decoded text, of the exported checkpoint; ``split`` is empty if unknown."""

    task: str
    split: str
    metric: str
    value: float


@dataclass(frozen=True)
class TrainingRecord:
    """The training runs of a student, the first one first, its scores, and the model from which it started.

    Attributes:
      stages: training runs; empty for imported weights.
      scores: scores of the last run.
      started_from: content of ``import.json`` of the initial weights; empty if there are none.
    """

    stages: tuple[Stage, ...] = ()
    scores: tuple[Score, ...] = ()
    started_from: dict[str, Any] = field(default_factory=dict)


def read_record(
    checkpoint: Path, *, corpus: Path | None = None, evaluations: Sequence[Path] = (), hf_files: Path | None = None
) -> TrainingRecord:
    """Reads what the run of a checkpoint recorded, and follows INITIAL_CHECKPOINT_PATH to the runs before it.

    Args:
      checkpoint: the exported checkpoint, or a directory without a run.
      corpus: teacher text of the distillation, if it is not in the data directory.
      evaluations: directories that ``t5x.eval`` wrote, besides those inside MODEL_DIR.
      hf_files: configuration and tokenizer of the student; ``import.json`` may be beside this folder.

    Raises:
      FsaError: config.gin, ``corpus`` or ``evaluations`` cannot be read.
    """
    stages: list[Stage] = []
    imported: dict[str, Any] = {}
    place: Path | None = checkpoint
    seen: set[Path] = set()
    while place is not None and (run := place.resolve().parent) not in seen:
        seen.add(run)
        imported = read_json(run / IMPORT_RECORD)
        if imported or not (run / CONFIG).is_file():
            break
        config = read_config(run / CONFIG)
        stages.insert(0, _stage(config, place, corpus))
        place = _initial_checkpoint(config, run)
    if not imported and hf_files is not None and hf_files.name == "hf":
        imported = read_json(hf_files.parent / IMPORT_RECORD)
    return TrainingRecord(tuple(stages), tuple(_scores(checkpoint, evaluations)), imported)


def _stage(config: RunConfig, checkpoint: Path, corpus: Path | None) -> Stage:
    task = config.value("DatasetConfig.mixture_or_task_name", "train")
    task = task if isinstance(task, str) else ""
    teaches = is_teacher_text(task)
    settings = {title: _shown(config, config.value(name, "train")) for title, name in _SETTINGS}
    return Stage(
        kind="Distillation" if teaches else "Fine-tuning" if task.startswith(_FSA_TASKS) else "Training",
        task=task,
        step=checkpoint_files.step_of(checkpoint) or 0,
        settings={title: text for title, text in settings.items() if text},
        corpus=find_corpus(task, checkpoint, corpus) if teaches else None,
    )


def _shown(config: RunConfig, value: Any) -> str:
    """A value as text; a reference with the arguments that are bound to it. Empty if there is nothing to show."""
    if isinstance(value, Reference):
        bound = {
            name: argument.name if isinstance(argument, Reference) else _shown(config, argument)
            for name, argument in config.arguments(value.name).items()
        }
        listed = ", ".join(f"{name} {text}" for name, text in bound.items() if text)
        return f"{value.name} ({listed})" if listed else value.name
    if isinstance(value, dict):
        return ", ".join(f"{name} {_shown(config, inner)}" for name, inner in value.items())
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return ""
    return f"{value:g}" if isinstance(value, float) else str(value)


def _initial_checkpoint(config: RunConfig, run: Path) -> Path | None:
    """The checkpoint from which a run started; None if it started from scratch, or if that run no longer exists.

    Relative paths belong to the folder where the training ran. If MODEL_DIR is relative too, that folder is known.
    """
    path = config.value("parameters_only.path") or config.value("RestoreCheckpointConfig.path")
    if not isinstance(path, str) or not path or "://" in path:
        return None
    model_dir = config.value("train.model_dir")
    roots = [Path()]
    if isinstance(model_dir, str) and not Path(model_dir).is_absolute():
        parts = Path(model_dir).parts
        if run.parts[-len(parts) :] == parts:
            roots.insert(0, Path(*run.parts[: -len(parts)]))
    found = [root / path for root in roots]
    return next((one for one in found if any((one.parent / name).is_file() for name in (CONFIG, IMPORT_RECORD))), None)


def _scores(checkpoint: Path, evaluations: Sequence[Path]) -> list[Score]:
    run = checkpoint.parent
    inside = sorted(folder.parent for folder in run.glob("*/inference_eval")) if (run / CONFIG).is_file() else []
    scores: dict[Score, None] = {}  # A directory may be given that is inside the run too.
    for directory in (run, *inside, *evaluations):
        config = read_config(directory / CONFIG)
        split = config.value("DatasetConfig.split", "infer_eval")
        for task, metrics in runs.scores_of(checkpoint, directory).items():
            found = [Score(task, split if isinstance(split, str) else "", *metric) for metric in metrics.items()]
            scores |= {score: None for score in found if math.isfinite(score.value)}
    return list(scores)
