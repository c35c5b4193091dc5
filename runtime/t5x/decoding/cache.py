"""The cache of a decoder while several decodes of each example run side by side.

Rows are laid out example by example: row ``example * decodes + decode``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
from jaxtyping import Array, Int


@flax.struct.dataclass
class DecodingState:
    """What a network needs for the next token.

    Attributes:
      cur_index: position of ``cur_token``: a scalar, or one for each row.
      sequences: (rows, length + 1) the tokens so far, the beginning token first; zeros follow.
      cur_token: (rows, 1) the last token.
      cache: the network's cache of the tokens before it.
    """

    cur_index: Int[Array, "*rows"]
    sequences: Int[Array, "rows positions"]
    cur_token: Int[Array, "rows 1"]
    cache: Any


TokensToLogits = Callable[[DecodingState], tuple[Array, Any]]
"""From a state to the logits (rows, vocabulary) of the next token and the cache with the last one in it."""


def repeat_for_decodes(rows: Array, num_decodes: int, axis: int = 0) -> Array:
    """Repeats every row ``num_decodes`` times in place: (batch, …) to (batch · num_decodes, …)."""
    return jnp.repeat(rows, num_decodes, axis=axis)


def map_rows(fn: Callable[[Array], Array], cache: Any, offset: int) -> Any:
    """Applies ``fn`` to the leaves of ``cache`` that hold something for every row.

    Args:
      fn: function of an array.
      cache: pytree.
      offset: axis of the rows: 1 where layers are stacked on axis 0, else 0. Leaves without that axis, such as an
        index that all rows share, stay as they are; so does a position bias, which has no rows.
    """

    def apply(path: tuple[Any, ...], leaf: Array) -> Array:
        name = jax.tree_util.keystr(path[-1:], simple=True)
        return fn(leaf) if leaf.ndim > offset and name != "cached_bias" else leaf

    return jax.tree_util.tree_map_with_path(apply, cache)


def repeat_cache(cache: Any, num_decodes: int, offset: int) -> Any:
    """Repeats every row of the cache ``num_decodes`` times in place."""
    return map_rows(lambda leaf: repeat_for_decodes(leaf, num_decodes, axis=offset), cache, offset)


def select_decodes(cache: Any, decodes: Int[Array, "batch decodes"], offset: int) -> Any:
    """Gives every decode of an example the cache of the decode of that example that ``decodes`` names."""
    batch, num_decodes = decodes.shape
    rows = (jnp.arange(batch)[:, None] * num_decodes + decodes).reshape(-1)
    return map_rows(lambda leaf: jnp.take(leaf, rows, axis=offset), cache, offset)


def drop_left(
    decodes: Int[Array, "batch decodes length"], counts: Int[Array, "batch _"]
) -> Int[Array, "batch decodes length"]:
    """Shifts every decode left by its count, (batch, decodes) or (batch, 1); zeros follow."""
    length = decodes.shape[-1]
    source = jnp.broadcast_to(jnp.arange(length)[None, None, :] + counts[:, :, None], decodes.shape)
    moved = jnp.take_along_axis(decodes, jnp.minimum(source, length - 1), axis=-1)
    return jnp.where(source < length, moved, 0)
