"""The checkpoints of a run: written whole or not at all, kept by number or by a metric.

A checkpoint is the directory ``checkpoint_<step>`` with ``state/`` (Orbax's OCDBT), ``dataset/`` (the position in the
training data), checksums and a marker (fsa_base.checkpoint_files). It has a
temporary name until it is complete, so a save that is cut off anywhere leaves the earlier checkpoints as they were.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
from etils import epath
from flax.traverse_util import flatten_dict, unflatten_dict

from fsa_base import checkpoint_files, runs
from fsa_base.checkpoint_files import DATASET, STATE, checkpoint_steps
from fsa_base.disk import free_path, sync
from fsa_base.errors import CheckpointError
from t5x.distributed import processes

_INTERIM = "interim"
_TEMPORARY = re.compile(r"checkpoint_\d+\.tmp-\w+")
_SET_ASIDE = ".corrupt"


def absolute(path: epath.PathLike) -> epath.Path:
    """Returns ``path`` as Orbax wants it: absolute, where it is not a URL of a bucket."""
    return epath.Path(path if "://" in str(path) else os.path.abspath(path))


def checkpoint_path(directory: epath.PathLike, step: int) -> epath.Path:
    """Returns the path of the checkpoint of ``step`` in ``directory``."""
    return absolute(directory) / f"checkpoint_{step}"


class CheckpointManager:
    """Writes the checkpoints of one run and deletes those that need not be kept.

    The newest checkpoint is never deleted, since the run resumes from it. One that was saved because the run was
    interrupted is deleted once there is a newer one, unless ``force_keep_period`` asks for its step.

    Args:
      directory: the run's MODEL_DIR.
      save_dtype: of the saved parameters, None for as they are.
      keep: how many to keep, None for all.
      period: steps between saves (counted by the train loop).
      checkpoint_steps: further steps to save at.
      keep_dataset_checkpoints: how many of the newest keep ``dataset/``, None for all.
      force_keep_period: checkpoints at multiples of it are kept for good.
      metric_name_to_monitor: keeps the ``keep`` best by it instead of the newest: ``train/<metric>``,
        ``training_eval/<task>/<metric>`` or ``inference_eval/<task>/<metric>``. Metrics are read from the JSONL files
        in ``directory``, so what was best before an interruption stays known after it.
      metric_mode: ``max`` or ``min``.
      keep_checkpoints_without_metrics: whether checkpoints that lack the metric are kept.
      train_state, partitioner, dataset_iterator, restore_dtype: accepted for gin files of T5X, not needed here.

    Attributes:
      being_scored: gives the steps whose metrics are still being computed; their checkpoints are not deleted.
    """

    def __init__(
        self,
        directory: str,
        train_state: Any = None,
        partitioner: Any = None,
        dataset_iterator: Any = None,
        save_dtype: Any = None,
        restore_dtype: Any = None,
        keep: int | None = None,
        period: int | None = 1,
        checkpoint_steps: Sequence[int] | None = None,
        keep_dataset_checkpoints: int | None = None,
        force_keep_period: int | None = None,
        metric_name_to_monitor: str | None = None,
        metric_mode: Literal["max", "min"] = "max",
        keep_checkpoints_without_metrics: bool = True,
    ) -> None:
        del train_state, partitioner, dataset_iterator, restore_dtype
        best_by = runs.BestBy(metric_name_to_monitor or "", metric_mode)
        self.directory = absolute(directory)
        self.save_dtype = save_dtype
        self.keep = keep
        self.period = period
        self.extra_steps = frozenset(checkpoint_steps or ())
        self.keep_dataset_checkpoints = keep_dataset_checkpoints
        self.force_keep_period = force_keep_period
        self.metric = metric_name_to_monitor
        self.best_by = best_by if metric_name_to_monitor else None
        self.keep_without_metrics = keep_checkpoints_without_metrics
        self.being_scored: Callable[[], set[int]] = set
        self._interim: dict[int, bool] = {}

    def save(
        self,
        state_dict: Mapping[str, Any],
        step: int,
        save_dataset: Callable[[epath.Path], None] | None = None,
        transformations: Sequence[Callable[[Any], Any]] = (),
        interim: bool = False,
    ) -> None:
        """Writes the checkpoint of ``step``; every process calls it.

        Args:
          state_dict: nested dict of arrays, sharded or not, as the train state gives it.
          step: its step.
          save_dataset: writes this process's position in the data into the directory that it is given.
          transformations: applied to ``state_dict`` in order before it is written.
          interim: saved because the run is interrupted, to be deleted once there is a newer one.

        Raises:
          CheckpointError: the checkpoint could not be written. What was there before is untouched.
        """
        final = checkpoint_path(self.directory, step)
        partial = self.directory / f"{final.name}.tmp-write"
        try:
            self._write(partial, _for_saving(state_dict, self.save_dtype, transformations), step, save_dataset, interim)
            processes.barrier(f"written {step}")
            if jax.process_index() == 0:
                _commit(partial, final, step)
            processes.barrier(f"committed {step}")
        except (OSError, ValueError, jax.errors.JaxRuntimeError) as error:
            if jax.process_index() == 0 and partial.exists():
                partial.rmtree(missing_ok=True)
            raise CheckpointError(
                final,
                expected="room and permission for a checkpoint",
                found=f"{type(error).__name__}: {str(error).splitlines()[0]}",
                fix="free space or repair the directory, then start the same command again: it resumes from "
                f"{self._newest_name()}",
            ) from error
        self.prune()

    def _write(
        self,
        partial: epath.Path,
        state_dict: dict[str, Any],
        step: int,
        save_dataset: Callable[[epath.Path], None] | None,
        interim: bool,
    ) -> None:
        self._interim[step] = interim
        if jax.process_index() == 0:
            self._remove_leftovers()
            checkpoint_files.begin(partial, step, {_INTERIM: True} if interim else {})
        processes.barrier(f"directory {step}")
        with ocp.PyTreeCheckpointer() as checkpointer:
            checkpointer.save(partial / STATE, state_dict)
        if save_dataset is not None:
            save_dataset(partial / DATASET)

    def _remove_leftovers(self) -> None:
        """Deletes what saves and deletions that were cut off have left."""
        for entry in self.directory.iterdir():
            if _TEMPORARY.fullmatch(entry.name):
                entry.rmtree(missing_ok=True)

    def _newest_name(self) -> str:
        steps = checkpoint_steps(self.directory)
        return checkpoint_path(self.directory, steps[-1]).name if steps else "its start, there is none before"

    def prune(self) -> None:
        """Deletes the checkpoints that need not be kept; called after every save and every evaluation."""
        if jax.process_index() != 0:
            return
        runs.record_best_by(self.directory, self.best_by)
        steps = checkpoint_steps(self.directory)
        kept = self._kept(steps)
        for step in steps:
            if step not in kept:
                _delete(checkpoint_path(self.directory, step))
        if self.keep_dataset_checkpoints is not None:
            newest_first = [step for step in reversed(steps) if step in kept]
            for step in newest_first[max(1, self.keep_dataset_checkpoints) :]:
                checkpoint_files.forget_dataset(checkpoint_path(self.directory, step))

    def _kept(self, steps: Sequence[int]) -> set[int]:
        if not steps:
            return set()
        kept = {steps[-1]} | self.being_scored()
        if self.force_keep_period:
            kept |= {step for step in steps if step % self.force_keep_period == 0}
        # Those saved by preemption have no score, and would fill the disk where preemption is frequent.
        steps = [step for step in steps if not self._is_interim(step)]
        if self.keep is None:
            return kept | set(steps)
        if self.best_by is None:
            return kept | set(steps[-self.keep :])
        ranked = runs.ranked_steps(self.directory, self.best_by, steps)
        if self.keep_without_metrics:
            kept |= set(steps) - set(ranked)
        return kept | set(ranked[-self.keep :])

    def _is_interim(self, step: int) -> bool:
        if step not in self._interim:
            try:
                about = checkpoint_files.metadata(checkpoint_path(self.directory, step))
                self._interim[step] = bool(about.get(_INTERIM))
            except (OSError, ValueError, KeyError, TypeError, AttributeError):  # Of another writer, or damaged: kept.
                self._interim[step] = False
        return self._interim[step]

    def best_step(self) -> int | None:
        """Returns the step of the best checkpoint by the monitored metric, None without a metric or a value."""
        if self.best_by is None:
            return None
        return runs.best_step(self.directory, self.best_by, checkpoint_steps(self.directory))


class OrbaxCheckpointManagerInterface(CheckpointManager):
    """T5X's name for the manager of checkpoints, for gin files."""


class SaveBestCheckpointer(CheckpointManager):
    """Keeps the best checkpoints by ``train/accuracy`` unless told otherwise; T5X's name for it."""

    def __init__(self, directory: str, metric_name_to_monitor: str = "train/accuracy", **arguments: Any) -> None:
        super().__init__(directory, metric_name_to_monitor=metric_name_to_monitor, **arguments)


class Checkpointer(CheckpointManager):
    """T5X's name for the plain manager."""


def set_aside(path: epath.Path) -> epath.Path:
    """Renames a damaged checkpoint, so that it is neither resumed from nor lost; every process calls it.

    Returns:
      Its new path, on process 0.
    """
    free = free_path(path, _SET_ASIDE)
    processes.barrier(f"set aside {path.name}")
    if jax.process_index() == 0:
        path.rename(free)
    processes.barrier(f"set aside {path.name}, done")
    return free


def all_set_aside(directory: epath.PathLike) -> list[str]:
    """Returns the names of the checkpoints in ``directory`` that were set aside."""
    root = epath.Path(directory)
    return sorted(entry.name for entry in root.iterdir() if _SET_ASIDE in entry.name) if root.exists() else []


def _commit(partial: epath.Path, final: epath.Path, step: int) -> None:
    """Gives a checkpoint whose arrays and positions are all written its name; process 0 alone, in any thread."""
    checkpoint_files.seal(partial, step)
    if final.exists():
        _delete(final)
    partial.rename(final)
    sync(final.parent, recursive=False)


def _delete(path: epath.Path) -> None:
    """Deletes a checkpoint so that no half of one is ever found under its name."""
    doomed = path.parent / f"{path.name}.tmp-delete"
    if doomed.exists():
        doomed.rmtree(missing_ok=True)
    path.rename(doomed)
    doomed.rmtree(missing_ok=True)


def _for_saving(state_dict: Mapping[str, Any], dtype: Any, transformations: Sequence[Callable]) -> dict[str, Any]:
    saved: Any = dict(state_dict)
    for transform in transformations:
        saved = transform(saved)
    if dtype is not None:
        saved = {**saved, "target": jax.tree.map(lambda leaf: _cast(leaf, dtype), saved["target"])}
    # Orbax refuses empty nodes in a tree; Optax states without arrays leave some.
    return unflatten_dict(flatten_dict(saved))


def _cast(leaf: Any, dtype: Any) -> Any:
    if not jnp.issubdtype(leaf.dtype, jnp.floating) or leaf.dtype == jnp.dtype(dtype):
        return leaf
    return leaf.astype(np.dtype(jnp.dtype(dtype)))
