"""T5X checkpoints of weights alone: what both engines start from, and what serving and exporting read.

A checkpoint is a directory ``checkpoint_<step>`` with Orbax's ``state/``, in it ``target`` (the parameters) and
``state/step`` (T5X contract, section 4). Optimizer slots are neither written nor read here.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp

from fsa_jax.errors import CheckpointError
from fsa_jax.models.hf.lazy import Lazy

_STEP = re.compile(r"checkpoint_(\d+)")


class _OneAtATime(ocp.type_handlers.NumpyHandler):
    """Writes arrays one after the other. Orbax's own handler copies all of them first and writes them at once."""

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
      directory: the run's or the imported model's directory, which exists.
      step: training step, 0 for imported weights.
      target: nested dictionary of ``np.ndarray`` or ``Lazy``.

    Returns:
      The checkpoint's path.
    """
    path = directory.resolve() / f"checkpoint_{step}"
    path.mkdir()
    metadata = {"init_timestamp_nsecs": time.time_ns(), "custom_metadata": {"step": step}}
    (path / "_CHECKPOINT_METADATA").write_text(json.dumps(metadata))
    (path / "dataset").mkdir()
    handler = ocp.PyTreeCheckpointHandler(type_handler_registry=_registry())
    with ocp.Checkpointer(handler) as checkpointer:
        checkpointer.save(path / "state", {"target": dict(target), "state": {"step": np.asarray(step, np.int32)}})
    (path / "commit_success.txt").write_text(f"checkpoint of step {step}, complete\n")
    return path


def find_checkpoint(path: Path) -> Path:
    """``path`` itself if it is a checkpoint, else the newest checkpoint in it.

    Raises:
      CheckpointError: there is none.
    """
    if (path / "state").is_dir():
        return path
    steps = [int(match[1]) for entry in path.glob("checkpoint_*") if (match := _STEP.fullmatch(entry.name))]
    whole = [step for step in sorted(steps) if (path / f"checkpoint_{step}" / "state").is_dir()]
    if not whole:
        raise CheckpointError(
            path,
            expected="a checkpoint_<step> with state/, or a directory that holds some",
            found="none" if path.is_dir() else "nothing",
            fix="give a run's MODEL_DIR, one of its checkpoints, or what fsa import-hf wrote",
        )
    return path / f"checkpoint_{whole[-1]}"


def step_of(checkpoint: Path) -> int:
    """The training step in a checkpoint's name, 0 where it has none."""
    match = _STEP.fullmatch(checkpoint.name)
    return int(match[1]) if match else 0


def load_weights(checkpoint: Path, dtype: Any = np.float32) -> dict[str, Any]:
    """The parameters of a checkpoint as host arrays.

    Args:
      checkpoint: as ``find_checkpoint`` returns it.
      dtype: of the arrays.

    Returns:
      Nested dictionary of ``np.ndarray``.

    Raises:
      CheckpointError: it cannot be read, or a value is no finite number.
    """
    state = checkpoint.resolve() / "state"
    try:
        with ocp.PyTreeCheckpointer() as checkpointer:
            metadata = checkpointer.metadata(state)
            tree = getattr(metadata, "item_metadata", metadata)
            tree = getattr(tree, "tree", tree)
            item = {"target": jax.tree.map(lambda _: 0, tree["target"])}
            arguments = jax.tree.map(lambda _: ocp.RestoreArgs(restore_type=np.ndarray, dtype=dtype), item)
            restored = checkpointer.restore(state, item=item, transforms={}, restore_args=arguments)
    except (ValueError, KeyError, OSError, TypeError) as error:
        raise CheckpointError(
            checkpoint,
            expected="a checkpoint of T5X's layout with the parameters under target",
            found=f"{type(error).__name__}: {(str(error).splitlines() or [''])[0]}",
            fix="give another checkpoint of the run",
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
                found="NaN or infinite ones",
                fix="take an earlier checkpoint: training diverged before this one",
            )
