"""Multi-head attention with a cache for decoding, its masks, and T5's relative positions.

Relative positions are a learned bias for each head and bucket of distances; all layers of a stack share it.
"""

from __future__ import annotations

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from flax.linen.partitioning import param_with_axes
from jaxtyping import Array, Bool, Float, Int, Num

from fsa_base.networks.fused_attention import cudnn_attention
from fsa_base.networks.layers import Linear, Mode, attention_as, constrain

rel_embedding_init = nn.initializers.variance_scaling(1.0, "fan_avg", "uniform")


def buckets(
    relative: Int[np.ndarray, "*shape"], *, bidirectional: bool, num_buckets: int = 32, max_distance: int = 128
) -> Int[np.ndarray, "*shape"]:
    """Buckets of relative positions (key minus query), as in T5 (arXiv 1910.10683, section 2.1).

    Half of the buckets are for one distance each. The other half get logarithmically wider up to ``max_distance``; all
    larger distances share the last bucket. With ``bidirectional``, keys after the query have separate buckets;
    otherwise they all fall into bucket 0.
    """
    offset = np.zeros_like(relative)
    if bidirectional:
        num_buckets //= 2
        offset = np.where(relative > 0, num_buckets, 0)
        distance = np.abs(relative)
    else:
        distance = np.maximum(-relative, 0)
    exact = num_buckets // 2
    # The small addend makes sure that distances on a bucket border (16, 32, 64) are not rounded into the lower bucket.
    growth = np.log(np.maximum(distance, 1) / exact + 1e-7) / np.log(max_distance / exact)
    logarithmic = exact + (growth * (num_buckets - exact)).astype(np.int32)
    return (offset + np.where(distance < exact, distance, np.minimum(logarithmic, num_buckets - 1))).astype(np.int32)


class RelativePositionBias(nn.Module):
    """Bias of attention logits by distance. It depends on differences of indices, so it fits packed examples too."""

    num_heads: int
    bidirectional: bool
    dtype: Any = jnp.float32
    num_buckets: int = 32
    max_distance: int = 128

    @nn.compact
    def __call__(self, queries: int, keys: int, first: int = 0) -> Float[Array, "1 heads queries keys"]:
        """The bias of ``queries`` consecutive positions from ``first`` on."""
        table = param_with_axes(
            "rel_embedding",
            rel_embedding_init,
            (self.num_heads, self.num_buckets),
            jnp.float32,
            axes=("heads", "relpos_buckets"),
        )
        bucket_of_distance = buckets(
            np.arange(-queries + 1, keys) - first,
            bidirectional=self.bidirectional,
            num_buckets=self.num_buckets,
            max_distance=self.max_distance,
        )
        distance = jnp.arange(keys)[None, :] - jnp.arange(queries)[:, None]
        bucket = jnp.asarray(bucket_of_distance)[distance + queries - 1]
        # A product with one-hot rows, because its gradient is a matrix product; that of a lookup is a slow scatter.
        one_hot = jax.nn.one_hot(bucket, self.num_buckets, dtype=self.dtype)
        return jnp.einsum("hb,qkb->hqk", table.astype(self.dtype), one_hot)[None]


MASKED = -1e10
"""Logit of masked keys. It is finite, so that a row without any unmasked key does not become NaN."""

kernel_init = nn.initializers.variance_scaling(1.0, "fan_in", "normal")


def attention_mask(
    query_tokens: Num[Array, "batch queries"],
    key_tokens: Num[Array, "batch keys"],
    query_segments: Num[Array, "batch queries"] | None = None,
    key_segments: Num[Array, "batch keys"] | None = None,
) -> Bool[Array, "batch 1 queries keys"]:
    """True where neither token is padding (0) and, with segments, both belong to the same packed example."""
    mask = (query_tokens > 0)[:, :, None] & (key_tokens > 0)[:, None, :]
    if query_segments is not None and key_segments is not None:
        mask &= query_segments[:, :, None] == key_segments[:, None, :]
    return mask[:, None]


def causal_mask(length: int, prefix: Num[Array, "batch length"] | None = None) -> Bool[Array, "#batch 1 length length"]:
    """True where the key is not after the query, and between any two tokens of ``prefix`` (1 inside, 0 outside)."""
    mask = jnp.tri(length, dtype=bool)[None]
    if prefix is not None:
        mask = mask | ((prefix > 0)[:, :, None] & (prefix > 0)[:, None, :])
    return mask[:, None]


def attend(
    query: Float[Array, "batch queries heads head_dim"],
    key: Float[Array, "batch keys heads head_dim"],
    value: Float[Array, "batch keys heads head_dim"],
    mask: Bool[Array, "#batch 1 #queries #keys"] | None,
    bias: Float[Array, "#batch heads #queries keys"] | None,
) -> Float[Array, "batch queries heads head_dim"]:
    """The mean of the values for each query, weighted by the softmax of query times key plus ``bias``."""
    logits = jnp.einsum("bqhd,bkhd->bhqk", query, key)
    if bias is not None:
        logits = logits + bias.astype(logits.dtype)
    if mask is not None:
        # Masked logits are replaced, not lowered by a large number. If a compiler keeps that sum in float32 and its
        # maximum in bfloat16, the difference overflows exp in a row without any key (padding) and gives NaN.
        logits = jnp.where(mask, logits, jnp.asarray(MASKED, logits.dtype))
    weights = jax.nn.softmax(logits, axis=-1).astype(value.dtype)
    return jnp.einsum("bhqk,bkhd->bqhd", weights, value)


class MultiHeadAttention(nn.Module):
    """Attention of ``inputs`` to ``context``, without biases and without scaling of the logits.

    The scale ``1/sqrt(head_dim)`` is part of the query kernel's initial values, as in T5.

    The collection ``cache`` has ``cached_key`` and ``cached_value`` (batch, heads, head_dim, length) and
    ``cache_index``: the next position to write, as one number for all rows or, after a prefill of prompts of different
    lengths, one per row. The first call in mode ``decode`` creates the cache, with the length of its context; later
    calls take one token per row, and the ``bias`` of the cache's last position, from which that of the token follows.

    With ``fixed_context``, all steps attend to the same context. Its keys and values, ``context_key`` and
    ``context_value`` (batch, heads, head_dim, length), are all there is in the cache, if a call in mode ``prefill`` has
    written them; otherwise each step computes them again. If there are several adjacent rows of ``inputs`` for each row
    of the cache, such as beams, these share it.
    """

    num_heads: int
    head_dim: int
    dropout_rate: float
    mode: Mode
    dtype: Any = jnp.float32
    float32_logits: bool = False
    implementation: str = "plain"
    fixed_context: bool = False

    @nn.compact
    def __call__(
        self,
        inputs: Float[Array, "batch queries embed"],
        context: Float[Array, "batch keys embed"],
        mask: Bool[Array, "#batch 1 #queries #keys"] | None = None,
        bias: Float[Array, "1 heads _ _"] | None = None,
        prefill_lengths: Int[Array, " batch"] | None = None,
    ) -> Float[Array, "batch queries embed"]:
        # As in T5, the scale is part of the initial query kernels and is applied nowhere else.
        scale = jnp.sqrt(self.head_dim).astype(self.dtype)
        query = self._heads("query", inputs, lambda *args: kernel_init(*args) / scale)
        if self.fixed_context:
            key, value = self._of_context(context)
            # The rows that share a row of the context become its queries.
            query = query.reshape(key.shape[0], -1, *query.shape[2:])
            mask = None if mask is None else mask.reshape(key.shape[0], 1, -1, mask.shape[-1])
        else:
            key, value = (self._heads(name, context, kernel_init) for name in ("key", "value"))
            if self.mode.decode or self.mode.prefill:
                key, value, mask, bias = self._cached(key, value, mask, bias, prefill_lengths)
        value = self._dropout(value)
        # Steps of decoding have one query, also in the attention to the encoder, which has no cache.
        cached = self.mode.decode or self.mode.prefill or inputs.shape[1] == 1
        causal = self.mode.causal and not self.fixed_context and not cached
        if self.implementation == "cudnn" and mask is not None and not cached:
            outputs = cudnn_attention(query, key, value, mask, bias, scale=1.0, causal=causal)
        else:
            if self.float32_logits:
                query, key = query.astype(jnp.float32), key.astype(jnp.float32)
            outputs = attention_as(self.implementation, attend, causal=causal)(query, key, value, mask, bias)
        outputs = constrain(outputs, "batch", "length", "heads", "kv").reshape(*inputs.shape[:2], -1)
        return Linear(inputs.shape[-1], ("joined_kv", "embed"), self.dtype, kernel_init, name="out")(outputs)

    def _heads(self, name: str, x: Array, init: Any) -> Float[Array, "batch length heads head_dim"]:
        width = self.num_heads * self.head_dim
        projected = Linear(width, ("embed", "joined_kv"), self.dtype, init, name=name)(x)
        return constrain(
            projected.reshape(*x.shape[:2], self.num_heads, self.head_dim), "batch", "length", "heads", "kv"
        )

    def _dropout(self, value: Float[Array, "batch keys heads head_dim"]) -> Float[Array, "batch keys heads head_dim"]:
        """Attention dropout with one mask for all queries, and a random key from this module's stream, as in T5X.

        T5X multiplies the weights by the mask. The mask does not depend on the query, so the values can be multiplied
        instead, which are much smaller.
        """
        if not self.mode.enable_dropout or self.dropout_rate == 0.0:
            return value
        batch, keys, heads, _ = value.shape
        keep = jax.random.bernoulli(self.make_rng("dropout"), 1.0 - self.dropout_rate, (batch, heads, 1, keys))
        kept = jnp.einsum("bhqk->bkhq", keep.astype(value.dtype))
        return value * (kept / jnp.asarray(1.0 - self.dropout_rate, value.dtype))

    def _of_context(self, context: Float[Array, "batch keys embed"]) -> tuple[Array, Array]:
        """Keys and values of a context that stays the same while decoding: those in the cache, if they are there."""
        names = ("key", "value")
        if self.mode.decode and self.has_variable("cache", "context_key"):
            kept = (self.get_variable("cache", f"context_{name}") for name in names)
            key, value = (jnp.einsum("bhdk->bkhd", x) for x in kept)
            return key, value
        key, value = (self._heads(name, context, kernel_init) for name in names)
        if self.mode.prefill:
            for name, x in zip(names, (key, value), strict=True):
                self.put_variable("cache", f"context_{name}", jnp.einsum("bkhd->bhdk", x))
        return key, value

    def _cached(
        self,
        key: Float[Array, "batch keys heads head_dim"],
        value: Float[Array, "batch keys heads head_dim"],
        mask: Bool[Array, "#batch 1 #queries #keys"] | None,
        bias: Float[Array, "1 heads _ _"] | None,
        prefill_lengths: Int[Array, " batch"] | None,
    ) -> tuple[Array, Array, Array | None, Array | None]:
        """Reads and updates the cache; returns keys, values, mask and bias for the attention."""
        there = self.has_variable("cache", "cached_key")
        key, value = (jnp.einsum("bkhd->bhdk", x) for x in (key, value))
        cached_key = self.variable("cache", "cached_key", jnp.zeros, key.shape, key.dtype)
        cached_value = self.variable("cache", "cached_value", jnp.zeros, value.shape, value.dtype)
        index = self.variable("cache", "cache_index", lambda: jnp.zeros((), jnp.int32))
        if self.mode.prefill:
            cached_key.value = cached_key.value.at[..., : key.shape[-1]].set(key)
            cached_value.value = cached_value.value.at[..., : value.shape[-1]].set(value)
            lengths = jnp.asarray(key.shape[-1]) if prefill_lengths is None else prefill_lengths
            index.value = lengths.astype(jnp.int32)
        elif there:
            if key.shape[-1] != 1:
                raise ValueError(f"a decoding step takes one token per row, got {key.shape[-1]}")
            length = cached_key.value.shape[-1]
            row = index.value.reshape(-1)
            here = jnp.arange(length)[None, None, None, :] == row[:, None, None, None]
            key = cached_key.value = jnp.where(here, key, cached_key.value)
            value = cached_value.value = jnp.where(here, value, cached_value.value)
            index.value = index.value + 1
            written = jnp.arange(length)[None, None, None, :] <= row[:, None, None, None]
            mask = written if mask is None else mask & written
            if bias is not None:
                if bias.shape[-1] != length:
                    raise ValueError(f"max_decode_length must be the cache's length {length}, got {bias.shape[-1]}")
                # Beam search continues past the end of the cache in rows that started later; as in T5X, without a bias.
                ahead = (length - 1 - row)[:, None]
                place = jnp.where(ahead < 0, length, jnp.arange(length)[None, :] + ahead)
                of_rows = bias[0, :, 0].at[:, place].get(mode="fill", fill_value=0)
                bias = jnp.einsum("hrk->rhk", of_rows)[:, :, None]
        return jnp.einsum("bhdk->bkhd", key), jnp.einsum("bhdk->bkhd", value), mask, bias
