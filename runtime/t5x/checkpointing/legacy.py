"""Reading T5X's older checkpoints, such as the public ones under gs://t5-data.

The file ``checkpoint`` is msgpack: ``{"version": 3, "optimizer": {"target", "state"}}``. Small entries are stored in
it; for large ones there is a TensorStore spec whose path, relative to the checkpoint, is a directory of gzip-compressed
zarr.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
from etils import epath
from flax import serialization
from flax.traverse_util import flatten_dict

from fsa_base import checkpoint_files


def is_legacy(path: str) -> bool:
    """Returns whether the checkpoint at ``path`` has this format."""
    return (epath.Path(path) / checkpoint_files.LEGACY).is_file()


def _contents(path: str) -> dict[str, Any]:
    """Returns arrays and TensorStore specs by name with '/', names as in newer checkpoints."""
    tree = serialization.msgpack_restore((epath.Path(path) / checkpoint_files.LEGACY).read_bytes())
    optimizer: Any = tree["optimizer"]
    if "flax_mutables" in tree:
        optimizer = {**optimizer, "flax_mutables": tree["flax_mutables"]}
    flat = flatten_dict(optimizer, sep="/", is_leaf=lambda _, node: _is_spec(node))
    return {name: value for name, value in flat.items() if _is_spec(value) or not isinstance(value, Mapping)}


def _is_spec(node: Any) -> bool:
    return isinstance(node, Mapping) and "driver" in node


def _open(path: str, spec: Mapping[str, Any]) -> Any:
    """Opens the array of ``spec``, also if the checkpoint was moved since it was written."""
    import tensorstore

    store = dict(spec.get("kvstore", {}))
    name = str(store.get("path") or spec.get("path") or "").rstrip("/").rsplit("/", 1)[-1]
    root = str(path)
    if root.startswith("gs://"):
        bucket, _, prefix = root.removeprefix("gs://").partition("/")
        kvstore = {"driver": "gcs", "bucket": bucket, "path": f"{prefix}/{name}/"}
    else:
        kvstore = {"driver": "file", "path": f"{epath.Path(root).resolve()}/{name}/"}
    # Metadata in old specs may differ from the metadata of the array, which describes what was written.
    return tensorstore.open({"driver": spec["driver"], "kvstore": kvstore}, open=True).result()


def stored_shapes(path: str) -> dict[str, jax.ShapeDtypeStruct]:
    """Returns shape and dtype of every entry, by name with '/'. Raises whatever its libraries raise."""
    return {name: jax.ShapeDtypeStruct(value.shape, value.dtype) for name, value in _opened(path).items()}


def read(path: str, names: set[str]) -> dict[str, np.ndarray]:
    """Returns the values of the entries ``names`` as host arrays. Raises whatever its libraries raise."""
    opened = _opened(path, names)
    pending = {name: value if isinstance(value, np.ndarray) else value.read() for name, value in opened.items()}
    return {name: value if isinstance(value, np.ndarray) else value.result() for name, value in pending.items()}


def _opened(path: str, names: set[str] | None = None) -> dict[str, Any]:
    return {
        name: _Stored(_open(path, value)) if _is_spec(value) else np.asarray(value)
        for name, value in _contents(path).items()
        if names is None or name in names
    }


class _Stored:
    """A TensorStore with NumPy's names for shape and dtype."""

    def __init__(self, store: Any) -> None:
        self._store = store
        self.shape = tuple(store.shape)
        self.dtype = store.dtype.numpy_dtype

    def read(self) -> Any:
        return self._store.read()
