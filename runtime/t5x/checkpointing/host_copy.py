"""A copy of a state that is in the memory of CPU devices, for a save beside the next steps."""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp


class HostCopy:
    """Copies states of equal shapes, one after the other, to the same memory.

    Orbax copies arrays from accelerators, but takes a view of those in the memory of CPU devices, and the next step, to
    which they are donated, writes its results to the same memory. The memory of the copy is kept between saves: getting
    new memory takes longer than copying, because the operating system clears it.
    """

    def __init__(self) -> None:
        self._copy: dict[str, Any] | None = None

    def of(self, state_dict: dict[str, Any]) -> dict[str, Any]:
        """Returns ``state_dict`` with copies of its arrays in host memory; the copy before becomes invalid."""
        if not any(map(is_in_host_memory, jax.tree.leaves(state_dict))):
            return state_dict
        spent = state_dict if self._copy is None else self._copy
        copy = jax.block_until_ready(jax.tree.map(_copied, state_dict, spent))
        self._copy = copy
        return copy


def is_in_host_memory(leaf: Any) -> bool:
    """Returns whether ``leaf`` is an array in the memory of CPU devices."""
    return isinstance(leaf, jax.Array) and next(iter(leaf.devices())).platform == "cpu"


def _copied(leaf: Any, spent: Any) -> Any:
    if not is_in_host_memory(leaf):
        return leaf
    return jnp.copy(leaf) if spent is leaf else _overwritten(spent, leaf)


@functools.partial(jax.jit, donate_argnums=0, keep_unused=True)
def _overwritten(spent: jax.Array, array: jax.Array) -> jax.Array:
    """A copy of ``array`` in the memory of ``spent``; elsewhere if somebody still has a view of that."""
    del spent
    return jnp.copy(array)
