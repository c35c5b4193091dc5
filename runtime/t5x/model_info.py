"""``model-info.txt``: what a model consists of."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import jax
from etils import epath
from flax.traverse_util import flatten_dict


def write(path: str | Path, state: Any, mesh_axes: Any) -> None:
    """Writes name, shape, dtype and partitioning of every array of ``state`` to ``path``, from process 0.

    Args:
      path: the file.
      state: a train state of arrays or shapes.
      mesh_axes: the same with PartitionSpecs in place of arrays.
    """
    if jax.process_index() != 0:
        return
    entries: dict[str, Any] = dict(flatten_dict(state.state_dict(), sep="/"))
    axes: dict[str, Any] = dict(flatten_dict(mesh_axes.state_dict(), sep="/"))
    lines = [f"{'entry':<90} {'size':>12}  {'shape':<24} {'dtype':<10} mesh axes"]
    for name in sorted(entries):
        entry = entries[name]
        shape = str(tuple(entry.shape))
        lines.append(
            f"{name:<90} {math.prod(entry.shape):>12,}  {shape:<24} {entry.dtype!s:<10} {tuple(axes[name] or ())}"
        )
    total = sum(math.prod(entry.shape) for name, entry in entries.items() if name.startswith("target/"))
    lines.append(f"Total number of parameters: {total:,}")
    epath.Path(path).write_text("\n".join(lines) + "\n")
