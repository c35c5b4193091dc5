"""The settings of checkpoints that gin binds: when to save, and what to restore."""

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
      dtype: Dtype of the saved parameters. If None, their own. The step and the optimizer state are never converted.
      period: Steps between checkpoints, counted from the step at which MODEL_DIR began. If None, there are none.
      checkpoint_steps: Steps at which a checkpoint is saved additionally.
      keep: Number of checkpoints to keep: the newest, or the best if the manager monitors a metric. If None, all.
      keep_dataset_checkpoints: Number of newest checkpoints that keep ``dataset/``. If None, all.
      save_dataset: Also save the state of tf.data's iterator. After many examples this is faster to restore than the
        position alone (t5x/data/position.py).
      checkpointer_cls: Another way to choose the manager (``SaveBestCheckpointer``). ``checkpoint_manager_cls`` takes
        precedence.
      state_transformation_fns: Functions ``fn(state_dict) -> state_dict``, applied in order before saving.
      checkpoint_manager_cls: Creates the manager.
      async_save: Training continues as soon as the state is copied to the host, and another thread writes it. The host
        holds the copy until then. If False, training waits for every save.
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
    async_save: bool = True

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
    """Which checkpoint to start from, and how to read it.

    Attributes:
      path: A checkpoint (mode ``specific``) or a directory of checkpoints (``latest``, ``all``). If empty, the run
        starts with random weights.
      mode: ``specific``, ``latest`` or ``all`` (for evaluating every checkpoint).
      assignment_map: Pairs of a regular expression that matches a whole name in the model, and a name in the
        checkpoint or None. Every pair must match at least one name. None leaves the entry at its initial value. The
        map is not used when a run resumes from its own directory.
      strict: Ignored. In T5X it affects TensorFlow checkpoints, which this engine does not read.
      fallback_to_scratch: Entries that are missing in the checkpoint keep their initial values; they are logged.
      dtype: Dtype of the restored parameters. If None, that of the train state.
      restore_dataset: Continue at the checkpoint's position in the data.
      checkpointer_cls: Ignored. The format of a checkpoint is recognised from its files.
      state_transformation_fns: Functions ``fn(stored_state_dict, target_state_dict, is_resuming=False)`` that return
        the state dict to restore.
      checkpoint_manager_cls: Ignored.
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
        """The paths as a list; empty if the run starts with random weights."""
        given = [self.path] if isinstance(self.path, str) else list(self.path or ())
        return [path for path in given if path]


@dataclasses.dataclass
class CheckpointConfig:
    """``save``: if None, no checkpoints are written. ``restore``: if None, the run starts with random weights."""

    save: SaveCheckpointConfig | None = None
    restore: RestoreCheckpointConfig | None = None
