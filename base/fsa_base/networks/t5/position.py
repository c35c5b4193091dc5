"""T5's relative positions: a learnt bias for each head and bucket of distances, shared by all layers of a stack."""

from __future__ import annotations

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from flax.linen.partitioning import param_with_axes
from jaxtyping import Array, Float, Int

rel_embedding_init = nn.initializers.variance_scaling(1.0, "fan_avg", "uniform")


def buckets(
    relative: Int[np.ndarray, "*shape"], *, bidirectional: bool, num_buckets: int = 32, max_distance: int = 128
) -> Int[np.ndarray, "*shape"]:
    """Buckets of relative positions (key minus query), as in T5 (arXiv 1910.10683, section 2.1).

    Half of the buckets hold one distance each, the other half grow logarithmically up to ``max_distance``; all
    farther ones share the last. ``bidirectional`` gives keys after the query buckets of their own; else all of them
    fall into bucket 0.
    """
    offset = np.zeros_like(relative)
    if bidirectional:
        num_buckets //= 2
        offset = np.where(relative > 0, num_buckets, 0)
        distance = np.abs(relative)
    else:
        distance = np.maximum(-relative, 0)
    exact = num_buckets // 2
    # The small addend keeps distances that lie on a border (16, 32, 64) on its upper side despite rounding.
    growth = np.log(np.maximum(distance, 1) / exact + 1e-7) / np.log(max_distance / exact)
    logarithmic = exact + (growth * (num_buckets - exact)).astype(np.int32)
    return (offset + np.where(distance < exact, distance, np.minimum(logarithmic, num_buckets - 1))).astype(np.int32)


class RelativePositionBias(nn.Module):
    """Bias of attention logits by distance; positions are indices, so packed examples see their own distances."""

    num_heads: int
    bidirectional: bool
    dtype: Any = jnp.float32
    num_buckets: int = 32
    max_distance: int = 128

    @nn.compact
    def __call__(self, queries: int, keys: int) -> Float[Array, "1 heads queries keys"]:
        table = param_with_axes(
            "rel_embedding",
            rel_embedding_init,
            (self.num_heads, self.num_buckets),
            jnp.float32,
            axes=("heads", "relpos_buckets"),
        )
        bucket_of_distance = buckets(
            np.arange(-queries + 1, keys),
            bidirectional=self.bidirectional,
            num_buckets=self.num_buckets,
            max_distance=self.max_distance,
        )
        distance = jnp.arange(keys)[None, :] - jnp.arange(queries)[:, None]
        bucket = jnp.asarray(bucket_of_distance)[distance + queries - 1]
        # A product with one-hot rows: its gradient is a matrix product, where a lookup's is a scatter onto 32 columns.
        one_hot = jax.nn.one_hot(bucket, self.num_buckets, dtype=self.dtype)
        return jnp.einsum("hb,qkb->hqk", table.astype(self.dtype), one_hot)[None]
