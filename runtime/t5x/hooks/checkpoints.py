"""The hook that saves checkpoints, and the state that a run begins with, which may be one of these checkpoints."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

import jax
from etils import epath

from fsa_base import checkpoint_files
from fsa_base.checkpoint_files import DATASET
from fsa_base.errors import CheckpointError, DamagedCheckpointError
from t5x.checkpointing import manager
from t5x.checkpointing.config import RestoreCheckpointConfig, SaveCheckpointConfig
from t5x.checkpointing.manager import CheckpointManager
from t5x.checkpointing.restoring import resolve_paths
from t5x.data.position import TrainingData
from t5x.distributed import processes
from t5x.hooks.metric_log import MetricLog
from t5x.hooks.run_directory import Periodic
from t5x.progress import announce
from t5x.train_state import TrainState, TrainStateInitializer
from t5x.trainer import Trainer


def first_state(
    initializer: TrainStateInitializer,
    model_dir: str,
    restore: RestoreCheckpointConfig | None,
    init_rng: jax.Array,
    data: TrainingData,
    on_corrupt: str,
) -> tuple[TrainState, bool]:
    """Returns the initial state and whether the run resumes, and moves ``data`` to the position of that state.

    The state is that of the newest checkpoint in ``model_dir``; without one, that of the checkpoint in ``restore``;
    otherwise it has random weights.

    Raises:
      CheckpointError: A checkpoint is damaged, or all are, or it is a checkpoint of another model.
    """
    if (state := _resumed(initializer, model_dir, init_rng, data, on_corrupt)) is not None:
        return state, True
    if restore is not None and restore.paths:
        path = resolve_paths(restore)[-1]
        announce(f"starting from {path}")
        state = initializer.from_path(path, restore, init_rng)
        if restore.restore_dataset:
            _seek(data, epath.Path(path))
        return state, False
    announce(
        "starting FROM SCRATCH with random weights: no checkpoint to start from is given (INITIAL_CHECKPOINT_PATH)"
    )
    return initializer.from_scratch(init_rng), False


def _resumed(
    initializer: TrainStateInitializer, model_dir: str, init_rng: jax.Array, data: TrainingData, on_corrupt: str
) -> TrainState | None:
    """Returns the state of the newest (or newest intact) checkpoint in ``model_dir``; None if there is none.

    Damaged checkpoints are renamed only after an intact one was found: a run that cannot continue changes nothing.

    Raises:
      CheckpointError: A checkpoint is damaged, or all are, or it is a checkpoint of another model.
    """
    own = RestoreCheckpointConfig(path=model_dir)
    damaged: dict[epath.Path, str] = {}
    steps = checkpoint_files.checkpoint_steps(model_dir)
    while (step := processes.broadcast(steps.pop() if steps else -1)) >= 0:
        path = manager.checkpoint_path(model_dir, step)
        try:
            state = initializer.from_path(str(path), own, init_rng, is_resuming=True)
            _seek(data, path)
        except DamagedCheckpointError as error:
            if on_corrupt == "error":
                raise
            state = None  # two states may not fit into memory
            damaged[path] = error.found
            continue
        for unusable, found in damaged.items():
            renamed = manager.rename_damaged(unusable).name
            announce(f"{unusable} cannot be used: {found}\nrenamed to {renamed}; continuing with {path.name}")
        announce(f"resuming {path} (step {step})")
        return state
    renamed_before = manager.renamed_damaged(model_dir)
    if damaged or renamed_before:
        reasons = [f"{path.name}: {found}" for path, found in damaged.items()]
        raise CheckpointError(
            model_dir,
            expected="an intact checkpoint to continue from",
            found="; ".join(reasons) or f"only renamed damaged ones: {', '.join(renamed_before)}",
            fix="put an intact checkpoint back, or start again in another directory: --gin.MODEL_DIR=\"'DIRECTORY'\"",
        )
    return None


def _seek(data: TrainingData, path: epath.Path) -> None:
    """Moves ``data`` to the position in the checkpoint. If it is damaged for one process, all processes raise."""
    error = None
    try:
        data.seek(path / DATASET)
    except DamagedCheckpointError as own:
        error = own
    if processes.any_process(error is not None):
        raise error or checkpoint_files.damaged(path, "its position in the data, which another process cannot read")


class SaveCheckpoints:
    """Saves the state and the position in the data."""

    def __init__(
        self,
        manager: CheckpointManager,
        config: SaveCheckpointConfig,
        trainer: Trainer,
        data: TrainingData,
        at: Periodic,
        before: Callable[[], None],
        log: MetricLog,
        saved: int | None = None,
    ) -> None:
        self._manager, self._config, self._trainer, self._data, self._at = manager, config, trainer, data, at
        self._before, self._log = before, log
        self._saved = saved

    def after_step(self, step: int, metrics: Mapping[str, Any]) -> None:
        del metrics
        self._log_written(self._manager.finished())
        if step in self._at:
            self.save(step)

    def save(self, step: int, interim: bool = False) -> None:
        """Saves now, unless this step was saved already.

        Args:
          step: The step of the state.
          interim: The run is interrupted: wait until the checkpoint is complete. It is deleted after the next save.

        Raises:
          CheckpointError: This checkpoint or the one before could not be written.
        """
        if step == self._saved:
            return
        # Metrics up to this step must be on disk first: a run that resumes here does not compute them again.
        self._before()
        started = time.monotonic()
        self._log_written(self._manager.wait())
        self._manager.save(
            self._trainer.train_state.state_dict(),
            step,
            self._data.save,
            self._config.state_transformation_fns,
            interim,
            interim or not self._config.async_save,  # wait
        )
        self._saved = step
        self._log.write_once(step, {"timing/checkpoint_seconds": time.monotonic() - started})

    def _log_written(self, seconds: float | None) -> None:
        if seconds is not None and self._saved is not None:
            self._log.write_once(self._saved, {"timing/checkpoint_write_seconds": seconds})

    def close(self) -> None:
        self._before()
        self._log_written(self._manager.wait())
        processes.barrier("last checkpoint committed")
        # The last evaluation came after the last save, so the best checkpoint is known only now.
        self._manager.prune()
