"""Reading a checkpoint into a train state: which entries, under which names, in which dtype, on which devices."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
from absl import logging
from etils import epath
from flax.traverse_util import flatten_dict, unflatten_dict

from fsa_base import checkpoint_files
from fsa_base.checkpoint_files import STATE, checkpoint_steps, is_checkpoint
from fsa_base.errors import CheckpointError
from t5x import errors
from t5x.checkpointing import legacy
from t5x.checkpointing.config import RestoreCheckpointConfig
from t5x.checkpointing.manager import absolute, checkpoint_path
from t5x.distributed import processes

_SHOWN = 8


def resolve_paths(config: RestoreCheckpointConfig) -> list[str]:
    """Returns the paths of the checkpoints that ``config`` selects; empty if its path is empty.

    Every process must call this, and gets what process 0 finds: a training that is still running may save another
    checkpoint in the meantime.

    Raises:
      CheckpointError: There is no checkpoint at a path.
    """
    return processes.broadcast_texts([found for path in config.paths for found in _resolve(path, config.mode)])


def require_paths(config: RestoreCheckpointConfig) -> list[str]:
    """Returns the paths of the checkpoints that ``config`` selects, at least one.

    Raises:
      CheckpointError: No path is given, or there is no checkpoint.
    """
    paths = resolve_paths(config)
    if not paths:
        raise CheckpointError(
            "CHECKPOINT_PATH",
            expected="the path of a checkpoint",
            found=repr(config.path),
            fix="--gin.CHECKPOINT_PATH=\"'runs/name/checkpoint_1000'\"",
        )
    return paths


def _resolve(path: str, mode: str) -> list[str]:
    root = epath.Path(path)
    if epath.Path(f"{path}.index").exists():
        raise CheckpointError(
            path,
            expected="a checkpoint of Orbax, or of T5X in msgpack and zarr",
            found="a TensorFlow checkpoint",
            fix="use the T5X conversion of the same weights (t5x/t5_1_1_base instead of t5.1.1.base)",
        )
    if mode == "specific":
        if is_checkpoint(root):
            return [str(root)]
        steps = checkpoint_steps(root)
        raise CheckpointError(
            path,
            expected="one checkpoint, .../checkpoint_STEP",
            found=f"a directory with the checkpoints of steps {steps}" if steps else _what_is_there(root),
            fix=f"give {checkpoint_path(root, steps[-1])}" if steps else "correct the path",
        )
    steps = checkpoint_steps(root)
    if not steps:
        raise CheckpointError(
            path,
            expected="a directory with at least one checkpoint_STEP",
            found="one checkpoint" if is_checkpoint(root) else _what_is_there(root),
            fix="set RestoreCheckpointConfig.mode = 'specific'" if is_checkpoint(root) else "correct the path",
        )
    return [str(checkpoint_path(root, step)) for step in (steps if mode == "all" else steps[-1:])]


def _what_is_there(path: epath.Path) -> str:
    if not path.exists():
        return "nothing"
    return f"a directory without one ({len(list(path.iterdir()))} entries)" if path.is_dir() else "a file"


@dataclasses.dataclass(frozen=True)
class Plan:
    """Where every entry of a train state comes from.

    Attributes:
      path: The checkpoint.
      is_verified: Whether its files were compared with their checksums.
      stored: Shape and dtype of every entry of the checkpoint, by name with '/'.
      sources: Entry of the train state to entry of the checkpoint.
      from_scratch: Entries that keep their initial value, because the checkpoint does not have them.
      left_out: Entries that keep their initial value, because ``assignment_map`` maps them to None.
      dtype: Dtype of the parameters. If None, that of the train state.
      transformations: Functions to apply to the whole stored state dict. Until then ``sources`` is empty.
    """

    path: str
    is_verified: bool
    stored: Mapping[str, Any]
    sources: Mapping[str, str]
    from_scratch: Sequence[str]
    left_out: Sequence[str]
    dtype: Any
    transformations: Sequence[Any] = ()
    is_resuming: bool = False
    fallback: bool = False


def plan(path: str, expected: Mapping[str, Any], config: RestoreCheckpointConfig, is_resuming: bool) -> Plan:
    """Decides where every entry of ``expected`` (a state dict of shapes) comes from, without reading values.

    Before that, process 0 compares the files of the checkpoint with their checksums.

    Raises:
      DamagedCheckpointError: Files of the checkpoint were changed after writing, or cannot be read.
      CheckpointError: Entries are missing in the checkpoint or have other shapes; the message lists them.
    """
    is_verified = _verify(path)
    stored = _stored_shapes(path, is_verified)
    wanted = flatten_dict(expected, sep="/")
    if config.state_transformation_fns:
        return Plan(
            path,
            is_verified,
            stored,
            {},
            [],
            [],
            config.dtype,
            tuple(config.state_transformation_fns),
            is_resuming,
            config.fallback_to_scratch,
        )
    sources, fresh, left_out = _sources(path, wanted, stored, config, is_resuming)
    _check(path, wanted, stored, sources, [] if is_resuming else _left_out_patterns(config))
    return Plan(path, is_verified, stored, sources, fresh, left_out, config.dtype)


def _left_out_patterns(config: RestoreCheckpointConfig) -> list[str]:
    return [pattern for pattern, old_name in config.assignment_map or () if old_name is None]


def _verify(path: str) -> bool:
    """Returns whether the files agree with their checksums; False if there are none, which is printed with the reason.

    Raises:
      DamagedCheckpointError: A file was changed after writing. It is raised on every process.
    """
    is_first = jax.process_index() == 0
    found = checkpoint_files.verify(epath.Path(path)).to_json() if is_first else ""
    verdict = checkpoint_files.Verdict.from_json(processes.broadcast_texts([found])[0])
    verdict.require(say_unverified=is_first)
    return verdict.is_verified


def _sources(
    path: str,
    wanted: Mapping[str, Any],
    stored: Mapping[str, Any],
    config: RestoreCheckpointConfig,
    is_resuming: bool,
) -> tuple[dict[str, str], list[str], list[str]]:
    """Returns the source of every entry, the entries that are missing in the checkpoint, and those left out."""
    rules = [] if is_resuming else list(config.assignment_map or ())
    used: set[str] = set()
    sources: dict[str, str] = {}
    fresh: list[str] = []
    left_out: list[str] = []
    for name in wanted:
        source: str | None = name
        for pattern, old_name in rules:
            match = re.fullmatch(pattern, name)
            if match:
                used.add(pattern)
                source = None if old_name is None else match.expand(old_name)
                break
        if source is None:
            left_out.append(name)
        elif source not in stored and config.fallback_to_scratch:
            fresh.append(name)
        else:
            sources[name] = source
    unused = [pattern for pattern, _ in rules if pattern not in used]
    if unused:
        raise CheckpointError(
            "RestoreCheckpointConfig.assignment_map",
            expected=f"every pattern to match an entry of the model as a whole, such as {next(iter(wanted))}",
            found=f"none for {', '.join(map(repr, unused))}",
            fix="correct those patterns or leave them out",
        )
    missing = [
        f"{name} (from {source})" if source != name else name
        for name, source in sources.items()
        if source not in stored
    ]
    if missing:
        raise CheckpointError(
            path,
            expected=f"{len(wanted)} entries",
            found=f"{len(missing)} of them missing: {_listed(missing)}; "
            f"the checkpoint has beyond them: {_listed(sorted(stored.keys() - set(sources.values())))}",
            fix="restore a checkpoint of this model and optimizer, map names by "
            "RestoreCheckpointConfig.assignment_map, or let those entries start fresh by fallback_to_scratch = True",
        )
    return sources, fresh, left_out


def _check(
    path: str,
    wanted: Mapping[str, Any],
    stored: Mapping[str, Any],
    sources: Mapping[str, str],
    left_out: Sequence[str] = (),
) -> None:
    """Checks the shapes, and warns of entries of the checkpoint that nothing uses.

    Args:
      path: The checkpoint.
      wanted: Shape of every entry of the train state.
      stored: Shape of every entry of the checkpoint.
      sources: Entry of the train state to entry of the checkpoint.
      left_out: Patterns of the entries that are left out on purpose.
    """
    different = [
        f"{name} {tuple(wanted[name].shape)}, stored {tuple(stored[source].shape)}"
        for name, source in sources.items()
        if tuple(wanted[name].shape) != tuple(stored[source].shape)
    ]
    if different:
        raise CheckpointError(
            path,
            expected="the shapes of this model and optimizer",
            found=f"{len(different)} others: {_listed(different)}",
            fix="restore a checkpoint of this model, or change the model's sizes to the checkpoint's",
        )
    extra = sorted(stored.keys() - set(sources.values()))
    # A state without an optimizer never uses the optimizer's entries; this needs no warning.
    has_optimizer = any(name.startswith("state/param_states") for name in wanted)
    surprising = [
        name
        for name in extra
        if (has_optimizer or not name.startswith("state/"))
        and not any(re.fullmatch(pattern, name) for pattern in left_out)
    ]
    if surprising:
        logging.warning("%d entries of %s are not used: %s", len(surprising), path, _listed(surprising))


def _listed(names: Sequence[str]) -> str:
    shown = ", ".join(names[:_SHOWN])
    return f"{shown} and {len(names) - _SHOWN} more" if len(names) > _SHOWN else shown or "nothing"


def _stored_shapes(path: str, is_verified: bool) -> dict[str, Any]:
    """Returns shape and dtype of every entry of the checkpoint at ``path``, by name with '/'."""
    try:
        if legacy.is_legacy(path):
            return legacy.stored_shapes(path)
        with ocp.PyTreeCheckpointer() as checkpointer:
            metadata = checkpointer.metadata(absolute(path) / STATE)
        tree = getattr(metadata, "item_metadata", metadata)
        tree = getattr(tree, "tree", tree)
        if not tree:  # Orbax logs the reason and returns nothing.
            raise ValueError("the list of its entries cannot be read")
        entries = dict(flatten_dict(tree, sep="/"))
        for entry in entries.values():  # damaged metadata may give entries without any
            tuple(entry.shape)
        return entries
    except Exception as error:
        raise _unreadable(path, is_verified, error) from error


def read(
    plan: Plan, expected: Mapping[str, Any], shardings: Mapping[str, Any], fresh: Mapping[str, Any]
) -> dict[str, Any]:
    """Returns the state dict that ``plan`` describes, every array on its devices.

    Raises:
      DamagedCheckpointError: Values cannot be read.
    """
    wanted, layout = flatten_dict(expected, sep="/"), flatten_dict(shardings, sep="/")
    if plan.transformations:
        plan, values = _transformed(plan, expected, wanted)
        arrays = {name: jax.device_put(_as(values[name], _dtype(name, wanted, plan)), layout[name]) for name in values}
    elif legacy.is_legacy(plan.path):
        stored = _read_legacy(plan, set(plan.sources.values()))
        arrays = {
            name: jax.device_put(_as(stored[source], _dtype(name, wanted, plan)), layout[name])
            for name, source in plan.sources.items()
        }
    else:
        arguments = {
            source: ocp.ArrayRestoreArgs(dtype=_dtype(name, wanted, plan), sharding=layout[name])
            for name, source in plan.sources.items()
        }
        stored = _read_orbax(plan, arguments)
        arrays = {name: stored[source] for name, source in plan.sources.items()}
    values = flatten_dict(fresh, sep="/")
    arrays |= {name: values[name] for name in (*plan.from_scratch, *plan.left_out)}
    return unflatten_dict(arrays, sep="/")


def _read_orbax(plan: Plan, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Reads the entries in ``arguments``; Orbax does not read the others."""
    item = {name: plan.stored[name] for name in arguments}
    try:
        with ocp.Checkpointer(ocp.PyTreeCheckpointHandler()) as checkpointer:
            tree = checkpointer.restore(
                absolute(plan.path) / STATE,
                args=ocp.args.PyTreeRestore(
                    item=unflatten_dict(dict.fromkeys(item, 0), sep="/"),
                    restore_args=unflatten_dict(dict(arguments), sep="/"),
                    partial_restore=True,
                ),
            )
    except Exception as error:
        raise _unreadable(plan.path, plan.is_verified, error) from error
    return flatten_dict(tree, sep="/")


def _read_legacy(plan: Plan, names: set[str]) -> dict[str, np.ndarray]:
    try:
        return legacy.read(plan.path, names)
    except Exception as error:
        raise _unreadable(plan.path, plan.is_verified, error) from error


def _transformed(plan: Plan, expected: Mapping[str, Any], wanted: Mapping[str, Any]) -> tuple[Plan, dict[str, Any]]:
    """Reads all entries into host memory and applies the user's functions."""
    if legacy.is_legacy(plan.path):
        state = unflatten_dict(_read_legacy(plan, set(plan.stored)), sep="/")
    else:
        arguments = {name: ocp.RestoreArgs(restore_type=np.ndarray) for name in plan.stored}
        state = unflatten_dict(_read_orbax(plan, arguments), sep="/")
    for transform in plan.transformations:
        state = transform(state, expected, is_resuming=plan.is_resuming)
    values = flatten_dict(state, sep="/")
    shapes = {name: _shape(np.asarray(value)) for name, value in values.items()}
    config = RestoreCheckpointConfig(path=plan.path, fallback_to_scratch=plan.fallback)
    sources, fresh, _ = _sources(plan.path, wanted, shapes, config, is_resuming=False)
    _check(plan.path, wanted, shapes, sources)
    done = dataclasses.replace(plan, sources=sources, from_scratch=fresh, transformations=())
    return done, {name: values[source] for name, source in sources.items()}


def _dtype(name: str, wanted: Mapping[str, Any], plan: Plan) -> Any:
    """Returns the dtype of an entry: only parameters are cast to the configured dtype; the step stays int32."""
    own = wanted[name].dtype
    is_parameter = name.startswith("target/") and jnp.issubdtype(own, jnp.floating)
    return jnp.dtype(plan.dtype) if plan.dtype is not None and is_parameter else own


def _as(value: Any, dtype: Any) -> np.ndarray:
    return np.asarray(value).astype(dtype)


def _shape(value: np.ndarray) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(value.shape, value.dtype)


def _unreadable(path: str, is_verified: bool, error: Exception) -> Exception:
    """Returns the exception to raise for ``error``, which a library raised while reading (TensorStore's have no type).

    The checkpoint counts as damaged only if there were no checksums to compare with and there is one process: of
    several processes another may have read its part successfully, and all must agree before a run takes another
    checkpoint.
    """
    if isinstance(error, MemoryError):
        return error
    if for_user := errors.for_user(error):
        return for_user
    reason = str(error).strip().splitlines()
    found = f"{type(error).__name__}: {reason[0][:300] if reason else ''}"
    if not is_verified and jax.process_count() == 1:
        return checkpoint_files.damaged(path, found)
    return CheckpointError(
        path,
        expected="a checkpoint that Orbax and this machine can read",
        found=found,
        fix="take another checkpoint, or move this one out of the way",
    )
