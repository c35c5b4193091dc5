"""Reads and writes T5X checkpoints with weights only. Both engines can start from them; serving and exports read them.

A checkpoint is a directory ``checkpoint_<step>`` with Orbax's ``state/``, which has ``target`` (the parameters) and
``state/step`` (T5X contract, section 4). Optimizer states are neither written nor read here.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp

from fsa_base import checkpoint_files
from fsa_base.checkpoint_files import STATE
from fsa_base.errors import CheckpointError
from fsa_jax.weights.hf_files import Lazy


class _OneAtATime(ocp.type_handlers.NumpyHandler):
    """Writes arrays one after the other. Orbax's own handler first copies all arrays, and so needs twice the memory."""

    async def serialize(self, values: Sequence[Any], infos: Sequence[Any], args: Sequence[Any] | None = None) -> list:
        for i, (value, info) in enumerate(zip(values, infos, strict=True)):
            array = value.values() if isinstance(value, Lazy) else value
            for written in await super().serialize([array], [info], args and [args[i]]):
                written.result()
        return []


def _registry() -> Any:
    one_at_a_time = _OneAtATime()
    return ocp.type_handlers.create_type_handler_registry(
        (Lazy, one_at_a_time), (np.ndarray, one_at_a_time), (jax.Array, ocp.type_handlers.ArrayHandler())
    )


def save_weights(directory: Path, step: int, target: Mapping[str, Any]) -> Path:
    """Writes ``directory/checkpoint_<step>``.

    Args:
      directory: existing directory of a run or of an imported model.
      step: training step; 0 for imported weights.
      target: nested dictionary of ``np.ndarray`` or ``Lazy``.

    Returns:
      The path of the checkpoint.
    """
    path = directory.resolve() / f"checkpoint_{step}"
    checkpoint_files.begin(path, step)
    handler = ocp.PyTreeCheckpointHandler(type_handler_registry=_registry())
    with ocp.Checkpointer(handler) as checkpointer:
        checkpointer.save(path / STATE, {"target": dict(target), "state": {"step": np.asarray(step, np.int32)}})
    checkpoint_files.seal(path, step)
    return path


def find_checkpoint(path: Path) -> Path:
    """``path`` itself if it is a checkpoint, else the newest checkpoint in it; complete or damaged.

    Raises:
      CheckpointError: there is no checkpoint.
    """
    return checkpoint_files.find_checkpoints(path)[-1]


def step_of(checkpoint: Path) -> int:
    """The training step in a checkpoint's name; 0 if the name has none."""
    return checkpoint_files.step_of(checkpoint) or 0


@contextmanager
def _without_warnings() -> Iterator[None]:
    """Hides Orbax's warnings, one for every array, which are about its own interface and say nothing to a user."""
    logger = logging.getLogger("absl")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)


def load_weights(checkpoint: Path, dtype: Any = np.float32) -> dict[str, Any]:
    """Loads the parameters of a checkpoint as host arrays, after comparing its files with their checksums.

    Args:
      checkpoint: path that ``find_checkpoint`` returned.
      dtype: dtype of the arrays.

    Returns:
      Nested dictionary of ``np.ndarray``.

    Raises:
      DamagedCheckpointError: its files have changed since they were written.
      CheckpointError: the checkpoint cannot be read, or a value is not a finite number.
    """
    verdict = checkpoint_files.verify(checkpoint)
    verdict.require()
    if (checkpoint / checkpoint_files.LEGACY).exists():
        raise CheckpointError(
            checkpoint,
            expected=f"an Orbax checkpoint, with {STATE}/",
            found="one that T5X wrote before it used Orbax",
            fix="start a training run from it (INITIAL_CHECKPOINT_PATH), and use a checkpoint of that run",
        )
    state = checkpoint.resolve() / STATE
    try:
        with _without_warnings(), ocp.PyTreeCheckpointer() as checkpointer:
            metadata = checkpointer.metadata(state)
            tree = getattr(metadata, "item_metadata", metadata)
            tree = getattr(tree, "tree", tree)
            item = {"target": jax.tree.map(lambda _: 0, tree["target"])}
            arguments = jax.tree.map(lambda _: ocp.RestoreArgs(restore_type=np.ndarray, dtype=dtype), item)
            restored = checkpointer.restore(state, item=item, transforms={}, restore_args=arguments)
    except MemoryError:
        raise
    except Exception as error:  # TensorStore and Orbax raise many types, also plain Exception.
        found = f"{type(error).__name__}: {(str(error).splitlines() or [''])[0][:300]}"
        if not verdict.is_verified:
            raise checkpoint_files.damaged(checkpoint, found) from error
        raise CheckpointError(
            checkpoint,
            expected="a checkpoint of T5X's layout with the parameters under target",
            found=found,
            fix="use another checkpoint of the run",
        ) from error
    _check_finite(checkpoint, restored["target"])
    return restored["target"]


def _check_finite(checkpoint: Path, target: Mapping[str, Any]) -> None:
    for path, values in jax.tree_util.tree_leaves_with_path(target):
        if not all(bool(np.isfinite(block).all()) for block in np.array_split(values, max(1, values.size >> 24))):
            name = "/".join(str(entry.key) for entry in path)
            raise CheckpointError(
                f"{checkpoint}: {name}",
                expected="finite numbers",
                found="NaN or infinite numbers",
                fix="use an earlier checkpoint: training diverged before this one",
            )
