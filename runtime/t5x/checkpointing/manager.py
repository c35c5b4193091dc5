"""Writing the checkpoints of a run, each completely or not at all, and deleting those that are no longer needed.

A checkpoint is the directory ``checkpoint_<step>`` with ``state/`` (Orbax's OCDBT), ``dataset/`` (the position in the
training data), checksums and a marker (fsa_base.checkpoint_files). It has a temporary name until it is complete, so an
interrupted save leaves the earlier checkpoints unchanged. Only the copy of the state and the position in the data must
be of the saved step; everything after them can run in another thread while training continues.
"""

from __future__ import annotations

import contextlib
import os
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
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
from t5x.checkpointing.background import Background
from t5x.checkpointing.host_copy import HostCopy, is_in_host_memory
from t5x.distributed import processes

_INTERIM = "interim"
_TEMPORARY = re.compile(r"checkpoint_\d+\.tmp-\w+")
_DAMAGED_SUFFIX = ".corrupt"


def absolute(path: epath.PathLike) -> epath.Path:
    """Returns ``path`` as Orbax needs it: absolute, unless it is the URL of a bucket."""
    return epath.Path(path if "://" in str(path) else os.path.abspath(path))


def checkpoint_path(directory: epath.PathLike, step: int) -> epath.Path:
    """Returns the path of the checkpoint of ``step`` in ``directory``."""
    return absolute(directory) / f"checkpoint_{step}"


class CheckpointManager:
    """Writes the checkpoints of one run and deletes those that are no longer needed.

    The newest checkpoint is never deleted, since the run resumes from it. A checkpoint that was saved because the run
    was interrupted is deleted after the next one is saved, unless ``force_keep_period`` keeps its step.

    Args:
      directory: MODEL_DIR of the run.
      save_dtype: Dtype of the saved parameters. If None, their own.
      keep: Number of checkpoints to keep. If None, all.
      period: Steps between checkpoints; used by the training loop.
      checkpoint_steps: Steps at which a checkpoint is saved additionally.
      keep_dataset_checkpoints: Number of newest checkpoints that keep ``dataset/``. If None, all.
      force_keep_period: Checkpoints at multiples of this number of steps are never deleted.
      metric_name_to_monitor: Keep the best checkpoints by this metric instead of the newest: ``train/<metric>``,
        ``training_eval/<task>/<metric>`` or ``inference_eval/<task>/<metric>``. Metrics are read from the JSONL files
        in ``directory``, so the best checkpoint is also known after an interruption.
      metric_mode: ``max`` or ``min``.
      keep_checkpoints_without_metrics: Whether to keep checkpoints for which there is no value of the metric.
      train_state, partitioner, dataset_iterator, restore_dtype: Ignored; accepted for gin files of T5X.

    Attributes:
      being_scored: Returns the steps whose metrics are still being computed; their checkpoints are not deleted.
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
        self._background = Background()
        self._copy = HostCopy()

    def save(
        self,
        state_dict: Mapping[str, Any],
        step: int,
        save_dataset: Callable[[epath.Path], None] | None = None,
        transformations: Sequence[Callable[[Any], Any]] = (),
        interim: bool = False,
        wait: bool = True,
    ) -> None:
        """Writes the checkpoint of ``step``, after the save before it has ended. Every process must call this.

        Args:
          state_dict: Nested dict of arrays, sharded or not (``TrainState.state_dict``).
          step: The step of ``state_dict``.
          save_dataset: Writes the position of this process in the data to the given directory.
          transformations: Functions that are applied to ``state_dict`` in order before it is written.
          interim: Saved because the run is interrupted; deleted after the next checkpoint is saved.
          wait: Return when the checkpoint is complete. Otherwise return when the state is copied to the host and the
            position is written; the arrays may then be changed or donated. :meth:`finished` and :meth:`wait` raise the
            errors of the rest, which another thread does.

        Raises:
          CheckpointError: The checkpoint could not be written, or the one before. Earlier checkpoints are unchanged.
        """
        began = time.monotonic()
        self.wait()
        final = checkpoint_path(self.directory, step)
        partial = self.directory / f"{final.name}.tmp-write"
        with self._errors(final, partial):
            self._begin(partial, step, save_dataset, interim)
            written = _for_saving(state_dict, self.save_dtype, transformations)
            written = written if wait else self._copy.of(written)

        def write(copied: Callable[[], None]) -> float:
            with self._errors(final, partial):
                self._write(partial, written, copied)
                if jax.process_index() == 0:
                    _commit(partial, final, step)
            self.prune()
            return time.monotonic() - began

        if wait:
            write(lambda: None)
            processes.barrier(f"committed {step}")
        else:
            self._background.start(write)

    def finished(self) -> float | None:
        """Returns how many seconds a save without ``wait`` took that has ended since the last call; None without one.

        Raises:
          CheckpointError: It could not be written.
        """
        return self._background.finished()

    def wait(self) -> float | None:
        """Waits until no save is running in this process; returns its seconds as :meth:`finished` does.

        Raises:
          CheckpointError: It could not be written.
        """
        return self._background.wait()

    @contextlib.contextmanager
    def _errors(self, final: epath.Path, partial: epath.Path) -> Iterator[None]:
        """Turns errors of writing into CheckpointErrors, and removes what was written."""
        try:
            yield
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

    def _begin(
        self, partial: epath.Path, step: int, save_dataset: Callable[[epath.Path], None] | None, interim: bool
    ) -> None:
        self._interim[step] = interim
        if jax.process_index() == 0:
            self._remove_leftovers()
            checkpoint_files.begin(partial, step, {_INTERIM: True} if interim else {})
        processes.barrier(f"directory {step}")
        if save_dataset is not None:
            save_dataset(partial / DATASET)

    def _write(self, partial: epath.Path, state_dict: dict[str, Any], copied: Callable[[], None]) -> None:
        """Writes the arrays, and waits until every process has written its arrays.

        With several processes, the main threads wait until ``copied`` is called. After that, nothing here may use
        collectives of JAX, which would meet those of the steps; Orbax uses the barriers of JAX's coordination service.
        """
        # Compressed, trained weights are 8% smaller, and writing and reading them takes two to four times as long.
        arrays = ocp.BasePyTreeCheckpointHandler(
            save_concurrent_bytes=_bytes_in_flight(state_dict), use_compression=False
        )
        # Otherwise, if the directory cannot be created, Orbax's other threads wait for it for minutes.
        options = ocp.options.AsyncOptions(create_directories_asynchronously=False)
        handler = ocp.PyTreeCheckpointHandler(handler_impl=arrays)
        with ocp.AsyncCheckpointer(handler, async_options=options) as checkpointer:
            checkpointer.save(partial / STATE, args=ocp.args.PyTreeSave(state_dict))
            copied()
            checkpointer.wait_until_finished()

    def _remove_leftovers(self) -> None:
        """Deletes what interrupted saves and deletions left behind."""
        for entry in self.directory.iterdir():
            if _TEMPORARY.fullmatch(entry.name):
                entry.rmtree(missing_ok=True)

    def _newest_name(self) -> str:
        steps = checkpoint_steps(self.directory)
        return checkpoint_path(self.directory, steps[-1]).name if steps else "its start, there is none before"

    def prune(self) -> None:
        """Deletes the checkpoints that are no longer needed; called after every save and at the end of the run."""
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
        # Checkpoints saved because of preemption have no score; frequent preemption would fill the disk with them.
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
            except (
                OSError,
                ValueError,
                KeyError,
                TypeError,
                AttributeError,
            ):  # Written by another program, or damaged: keep it.
                self._interim[step] = False
        return self._interim[step]

    def best_step(self) -> int | None:
        """Returns the step of the best checkpoint by the monitored metric, None if there is no metric or no value."""
        if self.best_by is None:
            return None
        return runs.best_step(self.directory, self.best_by, checkpoint_steps(self.directory))


class OrbaxCheckpointManagerInterface(CheckpointManager):
    """The manager of checkpoints under the name that T5X's gin files use."""


class SaveBestCheckpointer(CheckpointManager):
    """Keeps the best checkpoints, by default by ``train/accuracy``; under the name that T5X's gin files use."""

    def __init__(self, directory: str, metric_name_to_monitor: str = "train/accuracy", **arguments: Any) -> None:
        super().__init__(directory, metric_name_to_monitor=metric_name_to_monitor, **arguments)


class Checkpointer(CheckpointManager):
    """The manager of checkpoints under another name that T5X's gin files use."""


def rename_damaged(path: epath.Path) -> epath.Path:
    """Renames a damaged checkpoint, so that no run resumes from it, and nothing is lost. Every process must call this.

    Returns:
      Its new path; valid on process 0.
    """
    free = free_path(path, _DAMAGED_SUFFIX)
    processes.barrier(f"rename damaged {path.name}")
    if jax.process_index() == 0:
        path.rename(free)
    processes.barrier(f"renamed damaged {path.name}")
    return free


def renamed_damaged(directory: epath.PathLike) -> list[str]:
    """Returns the names of the checkpoints in ``directory`` that were renamed because they are damaged."""
    root = epath.Path(directory)
    return sorted(entry.name for entry in root.iterdir() if _DAMAGED_SUFFIX in entry.name) if root.exists() else []


def _commit(partial: epath.Path, final: epath.Path, step: int) -> None:
    """Gives a completely written checkpoint its final name; called by process 0 only, in any thread."""
    checkpoint_files.seal(partial, step)
    if final.exists():
        _delete(final)
    partial.rename(final)
    sync(final.parent, recursive=False)


def _delete(path: epath.Path) -> None:
    """Deletes a checkpoint. It is renamed first, so that a partly deleted one is never found under its name."""
    doomed = path.parent / f"{path.name}.tmp-delete"
    if doomed.exists():
        doomed.rmtree(missing_ok=True)
    path.rename(doomed)
    doomed.rmtree(missing_ok=True)


def _bytes_in_flight(state_dict: dict[str, Any]) -> int | None:
    """Returns how many bytes are written at the same time; None if the arrays are in an accelerator's memory.

    On a machine without one, the steps use the memory and the cores that writing uses: writing everything at once
    slows down single steps, writing in pieces slows down more of them by less. An array is written in one piece, so the
    largest one decides.
    """
    sizes = [leaf.nbytes for leaf in jax.tree.leaves(state_dict) if is_in_host_memory(leaf)]
    return max(sizes) + 1 if sizes else None


def _for_saving(state_dict: Mapping[str, Any], dtype: Any, transformations: Sequence[Callable]) -> dict[str, Any]:
    saved: Any = dict(state_dict)
    for transform in transformations:
        saved = transform(saved)
    if dtype is not None:
        saved = {**saved, "target": jax.tree.map(lambda leaf: _cast(leaf, dtype), saved["target"])}
    # Orbax does not accept empty nodes in a tree; Optax states without arrays produce some.
    return unflatten_dict(flatten_dict(saved))


def _cast(leaf: Any, dtype: Any) -> Any:
    if not jnp.issubdtype(leaf.dtype, jnp.floating) or leaf.dtype == jnp.dtype(dtype):
        return leaf
    return leaf.astype(np.dtype(jnp.dtype(dtype)))
