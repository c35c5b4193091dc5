"""The mapping between the parameters of a model family and Hugging Face's tensors, and conversion in both directions.

Hugging Face stores matrices as (outputs, inputs), Flax as (inputs, outputs). Apart from this and the names, the tensors
correspond one to one, so each is converted alone and exactly.
"""

from __future__ import annotations

import importlib
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
"""Embeddings are padded to a multiple of this many rows."""


@dataclass(frozen=True)
class Leaf:
    """The mapping of one parameter.

    Args:
      path: keys in the Flax tree, with unstacked layers (``layers_<i>``).
      tensor: name of Hugging Face's tensor.
      shape: shape of the Flax parameter.
      transpose: whether Hugging Face's tensor has the two axes swapped.
      padded: whether Hugging Face's tensor may have fewer rows, which are filled up with zeros (the embedding of a T5
        with 32,101 rows).
    """

    path: Path
    tensor: str
    shape: tuple[int, ...]
    transpose: bool = False
    padded: bool = False


@dataclass(frozen=True)
class Family:
    """A model family that can be imported and exported.

    Args:
      name: name of the family, for messages.
      network: module and class of the network, ``module:class``; it is imported when it is needed.
      decoder_only: whether it is a decoder-only model, with a chat template, or else an encoder-decoder with T5's
        tokenizer.
      model_types: values of ``model_type`` in config.json.
      config: function that converts the content of config.json (and the tensors, if available) to our configuration;
        raises CheckpointError.
      leaves: function that returns the parameters of a configuration.
      hf_config: function that returns the content of config.json for a configuration; it updates the imported
        config.json, if there is one.
      optional: function that tells whether a tensor may be in a file but is not needed (buffers, copies of tied
        weights).
      completed: function that takes the content of config.json and the tensors, and adds tensors that the file leaves
        out because they are copies of others.
    """

    name: str
    network: str
    decoder_only: bool
    model_types: tuple[str, ...]
    config: Callable[[Mapping[str, Any], Mapping[str, Tensor] | None], Any]
    leaves: Callable[[Any], Sequence[Leaf]]
    hf_config: Callable[[Any, Mapping[str, Any], int], dict[str, Any]]
    optional: Callable[[str], bool]
    completed: Callable[[Mapping[str, Any], Mapping[str, Tensor]], Mapping[str, Tensor]] = lambda content, tensors: (
        tensors
    )

    def module(self, config: Any) -> Any:
        """The network of a configuration."""
        module, _, name = self.network.partition(":")
        return getattr(importlib.import_module(module), name)(config)


_LARGEST_COUNT = 1 << 24
"""Limit on rows and columns, above any real model. Larger numbers come from damaged files and would fill the memory."""
MOST_LAYERS = 2048


def count_of(config: Mapping[str, Any], key: str, largest: int = _LARGEST_COUNT, default: int | None = None) -> int:
    """A count in config.json, from 1 to ``largest``.

    Args:
      config: content of config.json.
      key: key of the count.
      largest: largest accepted count.
      default: value if the key is absent or null; None if the key is required.

    Raises:
      CheckpointError: the value is not such a number.
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
      CheckpointError: the value is not such a number.
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
    """A flag in config.json; null counts as ``default``.

    Raises:
      CheckpointError: the value is neither true nor false.
    """
    value = config.get(key)
    if value is not None and not isinstance(value, bool):
        raise CheckpointError(
            f"config.json: {key}", expected="true or false", found=repr(value)[:80], fix="download it again"
        )
    return default if value is None else value


def layer_of(path: Path) -> int | None:
    """The number of the layer in an unstacked path; None for a parameter outside the layers."""
    for part in path:
        match = _LAYER.fullmatch(part)
        if match:
            return int(match[1])
    return None


def stacked(path: Path) -> Path:
    """The path of the same parameter in a model with ``scan_layers``."""
    return tuple("layers" if _LAYER.fullmatch(part) else part for part in path)


def flatten(tree: Mapping[str, Any], prefix: Path = ()) -> Iterator[tuple[Path, Any]]:
    """The leaves of a nested dictionary, with their paths."""
    for key, value in tree.items():
        if isinstance(value, Mapping):
            yield from flatten(value, (*prefix, key))
        else:
            yield (*prefix, key), value


def unflatten(leaves: Mapping[Path, Any]) -> dict[str, Any]:
    """The nested dictionary from the result of ``flatten``."""
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
    """Converts the tensors of a file to parameters, a nested tree of ``Lazy`` arrays of ``dtype``.

    With ``scan_layers`` the layers are stacked along a leading axis.

    Raises:
      CheckpointError: a tensor is missing, unknown or has the wrong shape. Also raised later, when an array is created,
        if it has a value that is not a finite number.
    """
    leaves = family.leaves(config)
    known = {leaf.tensor for leaf in leaves}
    unknown = sorted(name for name in tensors if name not in known and not family.optional(name))
    if unknown:
        raise CheckpointError(
            next(iter(tensors.values())).file,
            expected=f"the tensors of {family.name}",
            found=f"{len(unknown)} other tensors, the first is {unknown[0]}",
            fix="check that config.json belongs to these weights and that they are the complete model, not an adapter",
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
    """Creates all arrays of a tree of ``Lazy`` arrays."""
    return unflatten({path: leaf.values() for path, leaf in flatten(tree)})


def _check(leaf: Leaf, tensors: Mapping[str, Tensor]) -> None:
    tensor = tensors.get(leaf.tensor)
    if tensor is None:
        raise CheckpointError(
            next(iter(tensors.values())).file.parent,
            expected=f"a tensor {leaf.tensor}",
            found="no tensor with that name",
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
            fix="use the weights from another source; if they overflow the dtype, import with --dtype float32",
        )


def _all_finite(values: np.ndarray) -> bool:
    # Checked in blocks of rows, because a mask over a whole embedding would need a quarter of its memory again.
    flat = values.reshape(-1, values.shape[-1]) if values.ndim > 1 else values[None]
    step = max(1, (1 << 22) // flat.shape[1])
    return all(bool(np.isfinite(flat[i : i + step]).all()) for i in range(0, len(flat), step))


def write_parameters(
    family: Family, config: Any, parameters: Mapping[str, Any], dtype: Any, *, rows: int | None = None
) -> dict[str, Lazy]:
    """Converts parameters to Hugging Face's tensors by name; each is converted only when it is written.

    Args:
      family: model family.
      config: configuration of the model.
      parameters: nested tree, with stacked or unstacked layers.
      dtype: dtype of the tensors.
      rows: number of rows of the padded parameters to keep; all by default.

    Raises:
      CheckpointError: the leaves or shapes of the tree do not fit the configuration.
    """
    flat = dict(flatten(parameters))
    leaves = family.leaves(config)
    expected = {path for leaf in leaves for path in (leaf.path, stacked(leaf.path))}
    strangers = sorted("/".join(path) for path in flat if path not in expected)
    if strangers:
        raise CheckpointError(
            "checkpoint",
            expected=f"the parameters of {family.name}",
            found=f"{len(strangers)} other parameters, the first is {strangers[0]}",
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
