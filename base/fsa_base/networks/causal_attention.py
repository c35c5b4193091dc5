"""Attention in which no query attends to a later key, without computing the weights of most later keys."""

from __future__ import annotations

from collections.abc import Callable

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

BLOCKS = 4
"""Blocks of queries. The n-th of 4 needs n/4 of the keys, so 10/16 of the weights are computed; of 8 it is 9/16, which
was not faster on a CPU."""
SHORTEST_BLOCK = 32
"""Queries that a block must have; with fewer, attention costs so little that one block is better."""


def in_causal_blocks(
    attend: Callable[..., Float[Array, "batch queries heads head_dim"]],
    query: Float[Array, "batch length heads head_dim"],
    key: Float[Array, "batch length kv_heads head_dim"],
    value: Float[Array, "batch length kv_heads head_dim"],
    *masks: Bool[Array, "... length length"] | Float[Array, "... length length"] | None,
) -> Float[Array, "batch length heads head_dim"]:
    """Computes attention for one block of queries after the other, each with the keys up to the end of its block.

    The result is that of all keys at once, but for rounding, and for padding queries, which attend to nothing.

    Args:
      attend: computes attention from some of the queries, keys and values, and the parts of ``masks`` for them.
      query: queries.
      key: keys.
      value: values.
      masks: arrays for all pairs of query and key, such as a mask that is false where the key is later, and a bias.
    """
    length = query.shape[1]
    size = -(-length // BLOCKS)
    if size < SHORTEST_BLOCK:
        return attend(query, key, value, *masks)
    blocks = []
    for start in range(0, length, size):
        end = min(start + size, length)
        of_block = (mask if mask is None else mask[..., start:end, :end] for mask in masks)
        blocks.append(attend(query[:, start:end], key[:, :end], value[:, :end], *of_block))
    return jnp.concatenate(blocks, axis=1)
