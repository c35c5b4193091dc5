"""How a family's parameters correspond to Hugging Face's tensors, and the conversion in both directions.

Hugging Face keeps matrices as (outputs, inputs), Flax as (inputs, outputs); beyond that and names, a tensor of one side
is a tensor of the other, so each is converted alone and exactly.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from fsa_base.errors import CheckpointError
from fsa_jax.weights.hf_files import Lazy, Tensor

Path = tuple[str, ...]
_LAYER = re.compile(r"layers_(\d+)")
_LARGEST_NUMBER = 1e30
ROWS_MULTIPLE = 128
"""Embeddings are padded to a multiple of so many rows."""


@dataclass(frozen=True)
class Leaf:
    """One parameter on both sides.

    Args:
      path: keys in the Flax tree, unstacked (``layers_<i>``).
      tensor: name in Hugging Face's file.
      shape: of the Flax parameter.
      transpose: the other side has the two axes swapped.
      padded: the other side may have fewer rows, which zeros fill up (the embedding of a 32,101-row T5).
    """

    path: Path
    tensor: str
    shape: tuple[int, ...]
    transpose: bool = False
    padded: bool = False


@dataclass(frozen=True)
class Family:
    """A family of models that can be imported and exported.

    Args:
      name: for messages.
      model_types: values of ``model_type`` in config.json.
      config: from config.json's content and, where they are at hand, the file's tensors to our configuration; raises
        CheckpointError.
      leaves: parameters of a configuration.
      hf_config: config.json's content for a configuration; the imported one, where there is one, is brought up to date.
      optional: tensors that a file may hold and that say nothing new (buffers, copies of tied weights).
      completed: from config.json's content and the file's tensors to these with those that the file leaves out because
        they are copies of others.
    """

    name: str
    model_types: tuple[str, ...]
    config: Callable[[Mapping[str, Any], Mapping[str, Tensor] | None], Any]
    leaves: Callable[[Any], Sequence[Leaf]]
    hf_config: Callable[[Any, Mapping[str, Any], int], dict[str, Any]]
    optional: Callable[[str], bool]
    completed: Callable[[Mapping[str, Any], Mapping[str, Tensor]], Mapping[str, Tensor]] = lambda content, tensors: (
        tensors
    )


_LARGEST_COUNT = 1 << 24
"""More rows, columns or layers than any model has; what is larger is damage, and would fill the memory."""
MOST_LAYERS = 2048


def count_of(config: Mapping[str, Any], key: str, largest: int = _LARGEST_COUNT, default: int | None = None) -> int:
    """A count in config.json, from 1 to ``largest``.

    Args:
      config: content of config.json.
      key: of the count.
      largest: that is believed.
      default: where the key is absent or null; None where it must be there.

    Raises:
      CheckpointError: it is no such number.
    """
    value = config.get(key)
    if value is None and default is not None:
        return default
    if type(value) is not int or not 1 <= value <= largest:
        raise CheckpointError(
            f"config.json: {key}",
            expected=f"a whole number from 1 to {largest}",
            found="nothing" if key not in config else repr(value)[:80],
            fix="check that config.json belongs to these weights, or download it again",
        )
    return value


def number_of(config: Mapping[str, Any], key: str, default: float | None = None) -> float:
    """A positive finite number in config.json.

    Raises:
      CheckpointError: it is no such number.
    """
    value = config.get(key, default)
    if not isinstance(value, int | float) or isinstance(value, bool) or not 0 < value < _LARGEST_NUMBER:
        raise CheckpointError(
            f"config.json: {key}",
            expected="a positive number",
            found="nothing" if key not in config else repr(value)[:80],
            fix="check that config.json belongs to these weights, or download it again",
        )
    return float(value)


def flag_of(config: Mapping[str, Any], key: str, default: bool) -> bool:
    """A flag in config.json; null is ``default``.

    Raises:
      CheckpointError: it is neither true nor false.
    """
    value = config.get(key)
    if value is not None and not isinstance(value, bool):
        raise CheckpointError(
            f"config.json: {key}", expected="true or false", found=repr(value)[:80], fix="download it again"
        )
    return default if value is None else value


def layer_of(path: Path) -> int | None:
    """The layer's number in an unstacked path; None outside of layers."""
    for part in path:
        match = _LAYER.fullmatch(part)
        if match:
            return int(match[1])
    return None


def stacked(path: Path) -> Path:
    """The path of the same parameter in a model with ``scan_layers``."""
    return tuple("layers" if _LAYER.fullmatch(part) else part for part in path)


def flatten(tree: Mapping[str, Any], prefix: Path = ()) -> Iterator[tuple[Path, Any]]:
    """Leaves of a nested dictionary with their paths."""
    for key, value in tree.items():
        if isinstance(value, Mapping):
            yield from flatten(value, (*prefix, key))
        else:
            yield (*prefix, key), value


def unflatten(leaves: Mapping[Path, Any]) -> dict[str, Any]:
    """The nested dictionary of ``flatten``."""
    tree: dict[str, Any] = {}
    for path, value in leaves.items():
        node = tree
        for key in path[:-1]:
            node = node.setdefault(key, {})
        node[path[-1]] = value
    return tree


def read_parameters(
    family: Family, config: Any, tensors: Mapping[str, Tensor], dtype: Any, *, scan_layers: bool
) -> dict[str, Any]:
    """Parameters from a file's tensors, as a nested tree of ``Lazy`` arrays of ``dtype``.

    With ``scan_layers`` layers are stacked along a leading axis.

    Raises:
      CheckpointError: a tensor is missing, has another shape or is unknown; or, when an array is made, it holds a value
        that is no finite number.
    """
    leaves = family.leaves(config)
    known = {leaf.tensor for leaf in leaves}
    unknown = sorted(name for name in tensors if name not in known and not family.optional(name))
    if unknown:
        raise CheckpointError(
            next(iter(tensors.values())).file,
            expected=f"the tensors of {family.name}",
            found=f"{len(unknown)} others, the first {unknown[0]}",
            fix="check that config.json belongs to these weights and that they are the whole model, not an adapter",
        )
    groups: dict[Path, list[Leaf]] = {}
    for leaf in leaves:
        groups.setdefault(stacked(leaf.path) if scan_layers else leaf.path, []).append(leaf)
    return unflatten({path: _reader(group, path, tensors, np.dtype(dtype)) for path, group in groups.items()})


def _reader(group: Sequence[Leaf], path: Path, tensors: Mapping[str, Tensor], dtype: np.dtype) -> Lazy:
    """The parameter at ``path``: one leaf, or the leaves of all layers stacked."""
    for leaf in group:
        _check(leaf, tensors)
    shape = group[0].shape if path == group[0].path else (len(group), *group[0].shape)

    def values() -> np.ndarray:
        array = np.empty(shape, dtype)
        if path == group[0].path:
            _fill(group[0], tensors, array)
        else:
            for leaf, layer in zip(group, array, strict=True):
                _fill(leaf, tensors, layer)
        return array

    return Lazy(shape, dtype, values)


def materialise(tree: Mapping[str, Any]) -> dict[str, Any]:
    """The arrays of a tree of ``Lazy``."""
    return unflatten({path: leaf.values() for path, leaf in flatten(tree)})


def _check(leaf: Leaf, tensors: Mapping[str, Tensor]) -> None:
    tensor = tensors.get(leaf.tensor)
    if tensor is None:
        raise CheckpointError(
            next(iter(tensors.values())).file.parent,
            expected=f"a tensor {leaf.tensor}",
            found="none of that name",
            fix="check that config.json belongs to these weights",
        )
    shape = leaf.shape[::-1] if leaf.transpose else leaf.shape
    rows = tensor.shape[0] if tensor.shape else 0
    fits = tensor.shape == shape
    if leaf.padded and not leaf.transpose:
        fits = tensor.shape[1:] == shape[1:] and shape[0] - ROWS_MULTIPLE < rows <= shape[0]
    elif leaf.padded:
        fits = len(tensor.shape) == 2 and tensor.shape[1] == shape[1] and shape[0] - ROWS_MULTIPLE < rows <= shape[0]
    if not fits:
        raise CheckpointError(
            f"{tensor.file}: {leaf.tensor}",
            expected=f"shape {shape}",
            found=f"shape {tensor.shape}",
            fix="check that config.json belongs to these weights",
        )
    if tensor.dtype.name not in ("float64", "float32", "float16", "bfloat16"):
        raise CheckpointError(
            f"{tensor.file}: {leaf.tensor}",
            expected="floating-point weights",
            found=str(tensor.dtype),
            fix="import the model's unquantised weights",
        )


def _fill(leaf: Leaf, tensors: Mapping[str, Tensor], destination: np.ndarray) -> None:
    tensor = tensors[leaf.tensor]
    values, rows = tensor.read(), tensor.shape[0]
    if leaf.transpose:
        values = values.T
    if leaf.padded and leaf.transpose:
        destination[:, :rows], destination[:, rows:] = values, 0
    elif leaf.padded:
        destination[:rows], destination[rows:] = values, 0
    else:
        destination[...] = values
    if not _all_finite(destination):
        raise CheckpointError(
            f"{tensor.file}: {leaf.tensor}",
            expected="finite numbers",
            found=f"{int(np.sum(~np.isfinite(destination)))} that are not (NaN or infinite) as {destination.dtype}",
            fix="take the weights from another source; if they overflow the dtype, import with --dtype float32",
        )


def _all_finite(values: np.ndarray) -> bool:
    # Row blocks: a mask over a whole embedding would be a quarter of its size again.
    flat = values.reshape(-1, values.shape[-1]) if values.ndim > 1 else values[None]
    step = max(1, (1 << 22) // flat.shape[1])
    return all(bool(np.isfinite(flat[i : i + step]).all()) for i in range(0, len(flat), step))


def write_parameters(
    family: Family, config: Any, parameters: Mapping[str, Any], dtype: Any, *, rows: int | None = None
) -> dict[str, Lazy]:
    """Parameters as Hugging Face's tensors by name, each converted when it is written.

    Args:
      family: of the model.
      config: of the model.
      parameters: nested tree, stacked or not.
      dtype: of the tensors.
      rows: rows of the padded parameters to keep; all by default.

    Raises:
      CheckpointError: the tree has not the leaves or shapes of the configuration.
    """
    flat = dict(flatten(parameters))
    leaves = family.leaves(config)
    expected = {path for leaf in leaves for path in (leaf.path, stacked(leaf.path))}
    strangers = sorted("/".join(path) for path in flat if path not in expected)
    if strangers:
        raise CheckpointError(
            "checkpoint",
            expected=f"the parameters of {family.name}",
            found=f"{len(strangers)} others, the first {strangers[0]}",
            fix="export a checkpoint of a T5, Llama-3.2, Qwen2.5 or Qwen3 student",
        )
    return {leaf.tensor: _writer(leaf, flat, np.dtype(dtype), rows) for leaf in leaves}


def _writer(leaf: Leaf, flat: Mapping[Path, np.ndarray], dtype: np.dtype, rows: int | None) -> Lazy:
    values, layer = flat.get(leaf.path), layer_of(leaf.path)
    if values is None and layer is not None and stacked(leaf.path) in flat:
        stack = flat[stacked(leaf.path)]
        values = stack[layer] if layer < len(stack) else None
    if values is None or values.shape != leaf.shape:
        raise CheckpointError(
            f"checkpoint: {'/'.join(leaf.path)}",
            expected=f"shape {leaf.shape}",
            found="nothing" if values is None else f"shape {values.shape}",
            fix="check that --base belongs to this checkpoint",
        )
    if leaf.transpose:
        values = values.T
    if leaf.padded and rows is not None:
        values = values[:rows]
    return Lazy(values.shape, dtype, lambda: np.asarray(values, dtype=dtype))
