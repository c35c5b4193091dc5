"""The run that a MODEL_DIR already has: whether a training continues it, and with the same settings."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from fsa_base import checkpoint_files, run_config
from fsa_base.disk import as_path
from fsa_base.errors import SettingError
from fsa_jax.common.paths import DATA_DIR_VARIABLE, STUDENT_VARIABLE
from fsa_jax.tokenizers.t5 import VOCABULARY_VARIABLE
from fsa_jax.training import run_record

_START = "INITIAL_CHECKPOINT_PATH"
_OPTIONS = {
    "MIXTURE_OR_TASK_NAME": "--task",
    _START: "--from",
    "BATCH_SIZE": "--batch-size",
    "LEARNING_RATE": "--learning-rate",
    "RANDOM_SEED": "--seed",
    DATA_DIR_VARIABLE: "--data",
    VOCABULARY_VARIABLE: "--vocabulary",
    STUDENT_VARIABLE: "--from",
}
"""The options that must be the same when a run is continued, by gin name or environment variable."""


@dataclass(frozen=True)
class EarlierRun:
    """A run that a training continues.

    Attributes:
      directory: its MODEL_DIR.
      config: its configuration.
      environment: the environment variables with which ``fsa train`` started it.
      step: step of its newest checkpoint; None if it has none.
    """

    directory: str
    config: run_config.RunConfig
    environment: Mapping[str, str]
    step: int | None

    def progress(self, steps: int | None) -> str:
        """How far the run is, for the user. ``steps`` is the number of steps to train, if it is known."""
        if self.step is None:
            return f"{self.directory} has a run without checkpoints, which starts again"
        if self.step == steps:
            return f"{self.directory} is complete: step {self.step} of {steps}; a larger --steps trains it further"
        return f"continuing {self.directory} at step {self.step}"


def find(directory: str) -> EarlierRun | None:
    """Returns the run of a MODEL_DIR; None if there is none.

    Raises:
      SettingError: the directory has checkpoints that are not of a training, such as an imported model.
    """
    path = as_path(directory)
    config = run_config.read_config(path / run_config.CONFIG)
    steps = checkpoint_files.checkpoint_steps(path)
    if config.bindings:
        return EarlierRun(directory, config, run_record.read(path), steps[-1] if steps else None)
    if steps:
        raise SettingError(
            f"--student {directory}",
            expected="a new name, or the name of a run",
            found=f"checkpoints without {run_config.CONFIG}, such as an imported model",
            fix=f"--student ANOTHER-NAME; --from {directory} starts from it",
        )
    return None


def start_of(run: EarlierRun, checkpoint: str) -> str:
    """The checkpoint from which a run started, if that is one of the same run as ``checkpoint``.

    ``--from NAME`` means the newest checkpoint, and the other run may have been trained further meanwhile.
    """
    recorded = str(run.config.macro(_START) or "")
    same = recorded and os.path.dirname(os.path.abspath(recorded)) == os.path.dirname(os.path.abspath(checkpoint))
    return recorded if same else checkpoint


def require_same(
    run: EarlierRun, bindings: Mapping[str, Any], environment: Mapping[str, str], sizes: tuple[str, str | None]
) -> None:
    """Raises SettingError if a command has other settings than the run that it would continue.

    Args:
      run: the run.
      bindings: gin bindings of the command; those without a value there are the recipe's.
      environment: environment variables of the command.
      sizes: the size of the command's student, and of the run's, None if it is not known.
    """
    wanted: dict[str, Any] = {_START: "", **bindings}
    recorded = {name: run.config.macro(name) for name in wanted if name in _OPTIONS}
    recorded[_START] = recorded[_START] or ""
    for name, path in run.environment.items():
        if name in environment:
            wanted[name], recorded[name] = os.path.abspath(environment[name]), path
    different = [
        f"{_OPTIONS[name]} {wanted[name] or 'not given'} (the run has {value or 'none'})"
        for name, value in recorded.items()
        if value is not None and value != wanted[name] and not _same_path(name, value, wanted[name])
    ]
    if sizes[1] not in (sizes[0], None):
        different.insert(0, f"--size {sizes[0]} (the run has {sizes[1]})")
    if different:
        raise SettingError(
            f"--student {run.directory}",
            expected="a new name, or the settings of the run that has this name, which is continued",
            found=", ".join(different),
            fix="--student ANOTHER-NAME, or the settings of the run; if its files were moved, delete "
            f"{run.directory}/{run_record.RECORD}",
        )


def _same_path(name: str, one: Any, other: Any) -> bool:
    return name == _START and bool(one) and bool(other) and os.path.abspath(one) == os.path.abspath(other)
