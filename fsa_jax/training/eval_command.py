"""The command of ``fsa eval``: scores a run with the sizes, task and vocabulary of its own configuration."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fsa_base import checkpoint_files, run_config, runs
from fsa_base.errors import CheckpointError, DataError, SettingError, require_choice
from fsa_jax.common.paths import DATA_DIR_VARIABLE, STUDENT_VARIABLE, shown
from fsa_jax.data.benchmark_files import task_of
from fsa_jax.data.own_labels import labels_of
from fsa_jax.evaluation.subsets import SUBSETS
from fsa_jax.tokenizers.t5 import ROWS, VOCABULARY_VARIABLE
from fsa_jax.training import recipes, run_record
from fsa_jax.training.engine_command import EngineCommand, refuse_bound_names
from fsa_jax.training.found_data import FoundData
from fsa_jax.training.starting_point import existing, model_dir, size_of_run
from fsa_jax.training.train_command import refuse_vocabulary

SPLITS = ("test", *(subset for subset in SUBSETS if subset != "all"))
_BF16 = "bfloat16"
"""``T5Config.dtype`` of gin/models/t5.gin."""
GIN_OPTIONS = {
    "MODEL_DIR": "MODEL_DIR, the first word",
    "CHECKPOINT_PATH": "a checkpoint as the first word",
    "MIXTURE_OR_TASK_NAME": "--task",
    "SPLIT": "--split",
    "BATCH_SIZE": "--batch-size",
    "EVAL_OUTPUT_DIR": "the command that fsa eval prints, with another EVAL_OUTPUT_DIR",
}
"""The options for gin names that may not be bound by hand."""
_NETWORK = {
    "dtype",
    "emb_dim",
    "head_dim",
    "logits_via_embedding",
    "mlp_activations",
    "mlp_dim",
    "num_decoder_layers",
    "num_encoder_layers",
    "num_heads",
    "scan_layers",
}
"""The settings of ``T5Config`` that decide which network a checkpoint belongs to and how it computes."""


@dataclass(frozen=True)
class Run:
    """A run to score.

    Attributes:
      model_dir: its MODEL_DIR.
      checkpoint: the checkpoint to score.
      config: its configuration.
      environment: the environment variables with which ``fsa train`` started it.
    """

    model_dir: Path
    checkpoint: Path
    config: run_config.RunConfig
    environment: Mapping[str, str]


def find_run(where: str) -> Run:
    """Finds a run and the checkpoint to score: of a MODEL_DIR the best one, or the newest if the run keeps no best one.

    Args:
      where: MODEL_DIR, MODEL_DIR@best, MODEL_DIR@newest, a checkpoint, or the name of a student in ``runs/``.

    Raises:
      FsaError: there is no checkpoint, or MODEL_DIR has no config.gin.
    """
    path = runs.named(existing(where) or Path(model_dir(where)))
    if not checkpoint_files.is_checkpoint(path):
        if not checkpoint_files.checkpoint_steps(path):
            checkpoint_files.find_checkpoints(path)  # raises the error
        choose = runs.best_checkpoint if runs.recorded_best_by(path) else runs.newest_checkpoint
        path = Path(choose(str(path)))
    directory = path.parent
    config = run_config.read_config(directory / run_config.CONFIG)
    if not config.bindings:
        raise CheckpointError(
            shown(directory),
            expected=f"a run with {run_config.CONFIG}",
            found="a checkpoint without it",
            fix="score the MODEL_DIR of a training; fsa predict takes checkpoints of any origin",
        )
    return Run(directory, path, config, run_record.read(directory))


def eval_command(
    run: Run,
    split: str,
    data: FoundData,
    *,
    task: str | None = None,
    vocabulary: Path | None = None,
    base: Path | None = None,
    batch_size: int | None = None,
    engine_flags: Sequence[str] = (),
) -> EngineCommand:
    """Returns the command that scores a run on a split. The results are written to ``MODEL_DIR/SPLIT``.

    Args:
      run: the run.
      split: one of SPLITS.
      data: what the data directory contains.
      task: labels, such as rest14; by default those on which the run was trained.
      vocabulary: SentencePiece model; by default the one of the run.
      base: imported model of a decoder-only student; by default the one of the run.
      batch_size: number of sentences that are decoded together; None for 64.
      engine_flags: further flags of the engine.

    Raises:
      SettingError: there is no such split, or the run's task has no scores.
    """
    require_choice("--split", split, SPLITS, "{setting} {choice}")
    refuse_bound_names(engine_flags, GIN_OPTIONS)
    chat = size_of_run(run.config) == recipes.CHAT
    labels = _labels(run, data, task)
    bindings: dict[str, Any] = {
        "MODEL_DIR": str(run.model_dir),
        "CHECKPOINT_PATH": str(run.checkpoint),
        "MIXTURE_OR_TASK_NAME": task_of(labels, chat),
        "SPLIT": split,
        "EVAL_OUTPUT_DIR": str(run.model_dir / split),
    }
    environment = {DATA_DIR_VARIABLE: str(data.root)}
    if base is not None and not chat:
        raise SettingError("--base", expected="none: the student is a T5", found=str(base), fix="leave out --base")
    if chat:
        refuse_vocabulary(vocabulary)
        bindings["MIXTURE_OR_TASK_MODULE"] = "fsa_jax.data.chat_tasks"
        environment |= _student(run, base)
        model = "chat"
    else:
        model, network = network_of(run.config.arguments("T5Config"))
        bindings |= network
        environment |= _vocabulary(run, vocabulary)
    # The lengths of a run that was fine-tuned on these labels fit them; those of distillation are longer than needed.
    lengths = run.config.macro("TASK_FEATURE_LENGTHS")
    if isinstance(lengths, dict) and task_of(labels, chat) == run.config.macro("MIXTURE_OR_TASK_NAME"):
        bindings["TASK_FEATURE_LENGTHS"] = lengths
    if batch_size is not None:
        bindings["BATCH_SIZE"] = batch_size
    files = [f"gin/models/{model}.gin", "gin/shared/eval.gin"]
    return EngineCommand("t5x.eval", files, bindings, environment, engine_flags)


def _labels(run: Run, data: FoundData, task: str | None) -> str:
    words = [name.split("/")[1] for name in data.labels]
    if not words:
        raise SettingError(
            "--data", expected="labelled sentences: fsa/{atsa,acsa,tasd,asqp}/NAME", found=str(data), fix="--data DIR"
        )
    if task is not None:
        if labels := labels_of(task, data.labels):
            return labels
        require_choice("--task", task, words, "{setting} {choice}")
    trained_on = str(run.config.macro("MIXTURE_OR_TASK_NAME"))
    labels = labels_of(trained_on, data.labels)
    if labels is None:
        raise SettingError(
            "--task",
            expected=f"labels to score on: {' or '.join(words)}",
            found=f"none; {shown(run.model_dir)} was trained on {trained_on}",
            fix=f"--task {words[0]}; a distilled student should be fine-tuned first: fsa train --from {run.model_dir}",
        )
    return labels


def network_of(found: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """The file in gin/models for a T5 with these settings of ``T5Config``, and bindings for what is different."""
    size = recipes.size_of(found)
    model = recipes.SIZES[size].model if size else "t5"
    known = {"dtype": recipes.SIZES[size].dtype if size else _BF16, **(recipes.SIZES[size].network if size else {})}
    bindings = {
        f"network.T5Config.{name}": value
        for name, value in found.items()
        if name in _NETWORK and value is not None and known.get(name) != value
    }
    rows = found.get("vocab_size")
    if isinstance(rows, int) and rows != ROWS:
        bindings["VOCABULARY_ROWS"] = rows
    return model, bindings


def _vocabulary(run: Run, given: Path | None) -> dict[str, str]:
    chosen = given or run.environment.get(VOCABULARY_VARIABLE) or os.environ.get(VOCABULARY_VARIABLE)
    rows = run.config.arguments("T5Config").get("vocab_size")
    if chosen is None and isinstance(rows, int) and rows != ROWS:
        raise SettingError(
            "--vocabulary",
            expected=f"the SentencePiece model of the run, whose embedding has {rows} rows",
            found=f"none, and T5's needs {ROWS}",
            fix="--vocabulary FILE",
        )
    return {VOCABULARY_VARIABLE: str(chosen)} if chosen else {}


def _student(run: Run, base: Path | None) -> dict[str, str]:
    chosen = base or run.environment.get(STUDENT_VARIABLE) or os.environ.get(STUDENT_VARIABLE)
    if not chosen:
        raise SettingError(
            "--base",
            expected="the output directory of fsa import-hf from which this decoder-only student was trained",
            found="none",
            fix="--base DIR",
        )
    return {STUDENT_VARIABLE: str(chosen)}


def scores_so_far(command: EngineCommand) -> list[dict[str, Any]]:
    """The scores in the output folder of a command, of all evaluations, in their order."""
    folder, task = command.bindings["EVAL_OUTPUT_DIR"], command.bindings["MIXTURE_OR_TASK_NAME"]
    return runs.metric_rows(folder, "inference_eval", task)


def new_scores(command: EngineCommand, before: int, step: int) -> dict[str, float]:
    """The scores that a finished command wrote.

    Args:
      command: the command.
      before: number of scores before it was started.
      step: step of the checkpoint.

    Raises:
      DataError: there are none.
    """
    rows = [row for row in scores_so_far(command)[before:] if row["step"] == step]
    if not rows:
        folder = command.bindings["EVAL_OUTPUT_DIR"]
        raise DataError(folder, expected=f"new scores of step {step}", found="none", fix="start the command again")
    return {name: float(value) for name, value in rows[-1].items() if name != "step" and isinstance(value, int | float)}
