"""What gin says about checkpoints: when to save, what to restore."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, Literal, get_args

from fsa_base.errors import SettingError, require_choice, require_float
from t5x.checkpointing import manager

RestoreMode = Literal["specific", "latest", "all"]


@dataclasses.dataclass
class SaveCheckpointConfig:
    """When and how checkpoints are written.

    Attributes:
      dtype: of the saved parameters; None keeps the dtype they have. Steps and optimizer state keep theirs, so that
        only bfloat16 parameters cost precision on resumption.
      period: steps between saves, counted from the step at which MODEL_DIR began; None saves none.
      checkpoint_steps: saved in addition to the period.
      keep: number of checkpoints to keep, None for all; the newest, or the best where the manager monitors a metric.
      keep_dataset_checkpoints: number of newest checkpoints that keep ``dataset/``, None for all.
      save_dataset: whether to save tf.data's own iterator state beside the position; faster to restore than the
        position alone where many examples precede it (t5x/data/position.py).
      checkpointer_cls: names a manager too (``SaveBestCheckpointer``); the other one wins where both are given.
      state_transformation_fns: each ``fn(state_dict) -> state_dict``, applied in order before saving.
      checkpoint_manager_cls: makes the manager.
    """

    dtype: str | None = "float32"
    period: int | None = None
    checkpoint_steps: Sequence[int] | None = None
    keep: int | None = None
    keep_dataset_checkpoints: int | None = None
    save_dataset: bool = False
    checkpointer_cls: Callable[..., Any] = manager.Checkpointer
    state_transformation_fns: Sequence[Callable[[Any], Any]] = ()
    checkpoint_manager_cls: Callable[..., Any] = manager.OrbaxCheckpointManagerInterface

    def __post_init__(self) -> None:
        require_float("utils.SaveCheckpointConfig.dtype", self.dtype)
        for name in ("period", "keep"):
            value = getattr(self, name)
            if value is not None and value <= 0:
                raise SettingError(
                    f"SaveCheckpointConfig.{name}",
                    expected="a positive number, or None",
                    found=repr(value),
                    fix=f"--gin.utils.SaveCheckpointConfig.{name}=None",
                )

    def make_manager(self, directory: str) -> manager.CheckpointManager:
        """Returns the manager of the checkpoints in ``directory``."""
        default = manager.OrbaxCheckpointManagerInterface
        chosen = self.checkpointer_cls if self.checkpoint_manager_cls is default else self.checkpoint_manager_cls
        if chosen is manager.Checkpointer:
            chosen = default
        return chosen(
            directory=directory,
            save_dtype=self.dtype,
            keep=self.keep,
            period=self.period,
            checkpoint_steps=self.checkpoint_steps,
            keep_dataset_checkpoints=self.keep_dataset_checkpoints,
        )


@dataclasses.dataclass
class RestoreCheckpointConfig:
    """What to start from.

    Attributes:
      path: a checkpoint (``specific``) or a directory of them (``latest``, ``all``); empty for from scratch.
      mode: ``specific``, ``latest`` or ``all`` (evaluation of every checkpoint).
      assignment_map: pairs of (regular expression for a whole new name, old name or None). Every pair must match.
        None leaves the entry at its fresh value. Skipped when a run resumes from its own directory.
      strict: only ever affected TensorFlow checkpoints, which this engine does not read.
      fallback_to_scratch: entries that the checkpoint lacks keep their fresh values, and are listed.
      dtype: of the restored parameters; None takes the train state's.
      restore_dataset: whether to continue at the checkpoint's position in the data.
      checkpointer_cls: accepted for gin files of T5X; what is read is told from the files themselves.
      state_transformation_fns: each ``fn(stored_state_dict, target_state_dict, is_resuming=False) -> state_dict``.
      checkpoint_manager_cls: accepted likewise.
    """

    path: str | Sequence[str]
    mode: RestoreMode = "latest"
    assignment_map: Sequence[tuple[str, str | None]] | None = None
    strict: bool = True
    fallback_to_scratch: bool = False
    dtype: str | None = None
    restore_dataset: bool = False
    checkpointer_cls: Callable[..., Any] = manager.Checkpointer
    state_transformation_fns: Sequence[Callable[..., Any]] = ()
    checkpoint_manager_cls: Callable[..., Any] = manager.OrbaxCheckpointManagerInterface

    def __post_init__(self) -> None:
        require_choice("utils.RestoreCheckpointConfig.mode", self.mode, get_args(RestoreMode))
        require_float("utils.RestoreCheckpointConfig.dtype", self.dtype)

    @property
    def paths(self) -> list[str]:
        """The paths, none for from scratch."""
        given = [self.path] if isinstance(self.path, str) else list(self.path or ())
        return [path for path in given if path]


@dataclasses.dataclass
class CheckpointConfig:
    """``save``: None writes no manager. ``restore``: None starts from scratch."""

    save: SaveCheckpointConfig | None = None
    restore: RestoreCheckpointConfig | None = None
