"""Grouped-query attention with rotary positions and a cache, for prompts padded on the left or on the right."""

from __future__ import annotations

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax.linen.partitioning import param_with_axes
from jaxtyping import Array, Bool, Float, Int

from fsa_base.networks.fused_attention import cudnn_attention
from fsa_base.networks.layers import LayerNorm, Mode, attention_as, constrain
from fsa_base.networks.llama.config import LlamaConfig, rotary_frequencies

MASKED = -1e10
"""Logit of a masked key. It is finite, so that a padding row, which has no unmasked key, does not become NaN."""

kernel_init = nn.initializers.normal(stddev=0.02)


def rotate(
    x: Float[Array, "batch length heads head_dim"], positions: Int[Array, "#batch length"], frequencies: Any
) -> Float[Array, "batch length heads head_dim"]:
    """Rotates the pair (i, i + head_dim/2) of each head by the angle ``positions * frequencies[i]``, in float32."""
    angles = positions[:, :, None, None].astype(jnp.float32) * jnp.asarray(frequencies)[None, None, None, :]
    cos, sin = jnp.cos(angles), jnp.sin(angles)
    first, second = jnp.split(x.astype(jnp.float32), 2, axis=-1)
    return jnp.concatenate([first * cos - second * sin, second * cos + first * sin], axis=-1).astype(x.dtype)


def attend(
    query: Float[Array, "batch queries heads head_dim"],
    key: Float[Array, "batch keys kv_heads head_dim"],
    value: Float[Array, "batch keys kv_heads head_dim"],
    mask: Bool[Array, "#batch 1 1 #queries #keys"],
) -> Float[Array, "batch queries heads head_dim"]:
    """The mean of the values for each query, weighted by a float32 softmax; ``heads / kv_heads`` share a key."""
    grouped = query.reshape(*query.shape[:2], key.shape[2], -1, query.shape[3])
    logits = jnp.einsum("bqkgd,bskd->bkgqs", grouped, key).astype(jnp.float32) * query.shape[3] ** -0.5
    weights = jax.nn.softmax(jnp.where(mask, logits, MASKED), axis=-1).astype(value.dtype)
    return jnp.einsum("bkgqs,bskd->bqkgd", weights, value).reshape(query.shape)


def attend_after(
    prefix: tuple[Float[Array, "kv_heads head_dim length"], Float[Array, "kv_heads head_dim length"]],
    query: Float[Array, "batch queries heads head_dim"],
    key: Float[Array, "batch keys kv_heads head_dim"],
    value: Float[Array, "batch keys kv_heads head_dim"],
    mask: Bool[Array, "#batch 1 1 #queries #keys"],
) -> Float[Array, "batch queries heads head_dim"]:
    """Like :func:`attend`, after ``prefix``: keys and values of earlier tokens, which are the same for all rows."""
    prefix_key, prefix_value = prefix
    grouped = query.reshape(*query.shape[:2], key.shape[2], -1, query.shape[3])
    own = jnp.einsum("bqkgd,bskd->bkgqs", grouped, key).astype(jnp.float32) * query.shape[3] ** -0.5
    of_prefix = jnp.einsum("bqkgd,kds->bkgqs", grouped, prefix_key).astype(jnp.float32) * query.shape[3] ** -0.5
    logits = jnp.concatenate([of_prefix, jnp.where(mask, own, MASKED)], axis=-1)
    first, rest = jnp.split(jax.nn.softmax(logits, axis=-1).astype(value.dtype), [prefix_key.shape[-1]], axis=-1)
    attended = jnp.einsum("bkgqs,kds->bqkgd", first, prefix_value) + jnp.einsum("bkgqs,bskd->bqkgd", rest, value)
    return attended.reshape(query.shape)


class Projection(nn.Module):
    """A linear layer: a matrix ``kernel`` and optionally a ``bias``."""

    features: int
    axes: tuple[str, str]
    use_bias: bool
    dtype: Any

    @nn.compact
    def __call__(self, x: Float[Array, "batch length inputs"]) -> Float[Array, "batch length outputs"]:
        kernel = param_with_axes("kernel", kernel_init, (x.shape[-1], self.features), jnp.float32, axes=self.axes)
        y = jnp.dot(x.astype(self.dtype), kernel.astype(self.dtype))
        if self.use_bias:
            bias = param_with_axes("bias", nn.initializers.zeros, (self.features,), jnp.float32, axes=self.axes[1:])
            y = y + bias.astype(self.dtype)[None, None, :]
        return y


class GroupedQueryAttention(nn.Module):
    """Self-attention in which ``num_heads / num_kv_heads`` query heads share a key and value head.

    The collection ``cache`` has ``cached_key`` (keys are already rotated) and ``cached_value`` (batch, kv heads,
    head_dim, length); ``cache_index``, the next slot to write, as one number for all rows or, after a prefill, one per
    row; and ``cache_start`` (batch), the first slot of a row that is not padding, from which its positions count. The
    first call in mode ``decode`` creates the cache, with the length of its input; later calls take one token per row.

    The collection ``prefix``, if there is one, has ``key`` (rotated) and ``value`` (1, kv heads, head_dim, length) of
    tokens that are before those of every row of the cache.
    """

    config: LlamaConfig
    mode: Mode

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "batch length embed"],
        mask: Bool[Array, "#batch 1 1 length length"],
        positions: Int[Array, "#batch length"],
        start: Int[Array, " batch"],
        prefill_lengths: Int[Array, " batch"] | None,
    ) -> Float[Array, "batch length embed"]:
        config = self.config
        query = self._heads("query", x, config.num_heads)
        key = self._heads("key", x, config.num_kv_heads)
        value = self._heads("value", x, config.num_kv_heads)
        if config.query_key_norm:
            query = LayerNorm(config.dtype, config.norm_epsilon, name="query_norm")(query)
            key = LayerNorm(config.dtype, config.norm_epsilon, name="key_norm")(key)

        stepping = self.mode.decode and self.has_variable("cache", "cached_key")
        cached = self.mode.decode or self.mode.prefill
        prefix = None
        if cached:
            cache = self._cache(key.shape)
            if stepping:
                positions = (cache["index"].value - cache["start"].value)[:, None]
            if self.has_variable("prefix", "key"):
                prefix = (self.get_variable("prefix", "key")[0], self.get_variable("prefix", "value")[0])
                positions = positions + prefix[0].shape[-1]
        frequencies = rotary_frequencies(config)
        query, key = rotate(query, positions, frequencies), rotate(key, positions, frequencies)
        if stepping:
            key, value, mask = self._step(cache, key, value)
        elif self.mode.prefill:
            self._fill(cache, key, value, start, prefill_lengths)

        implementation = config.attention_implementation
        causal = self.mode.causal and not cached
        if implementation == "cudnn" and not cached:
            scale = config.head_dim**-0.5
            attended = cudnn_attention(query, key, value, mask[:, 0], None, scale=scale, causal=causal)
        elif prefix is not None:
            attended = attend_after(prefix, query, key, value, mask)
        else:
            attended = attention_as(implementation, attend, causal=causal)(query, key, value, mask)
        attended = attended.reshape(*x.shape[:2], -1)
        return Projection(x.shape[-1], ("joined_kv", "embed"), False, config.dtype, name="out")(attended)

    def _heads(self, name: str, x: Array, count: int) -> Float[Array, "batch length heads head_dim"]:
        config = self.config
        width = count * config.head_dim
        flat = Projection(width, ("embed", "joined_kv"), config.attention_bias, config.dtype, name=name)(x)
        return constrain(flat.reshape(*x.shape[:2], count, config.head_dim), "batch", "length", "heads", "kv")

    def _cache(self, shape: tuple[int, ...]) -> dict[str, nn.Variable]:
        batch, length, heads, head_dim = shape
        slots, dtype = (batch, heads, head_dim, length), self.config.dtype
        return {
            "key": self.variable("cache", "cached_key", jnp.zeros, slots, dtype),
            "value": self.variable("cache", "cached_value", jnp.zeros, slots, dtype),
            "index": self.variable("cache", "cache_index", lambda: jnp.zeros((), jnp.int32)),
            "start": self.variable("cache", "cache_start", lambda: jnp.zeros((batch,), jnp.int32)),
        }

    def _fill(self, cache: dict[str, nn.Variable], key: Array, value: Array, start: Array, lengths: Any) -> None:
        """Writes the keys and values of whole prompts; later steps overwrite the slots from ``lengths`` on."""
        length = key.shape[1]
        cache["key"].value = cache["key"].value.at[..., :length].set(jnp.einsum("bkhd->bhdk", key))
        cache["value"].value = cache["value"].value.at[..., :length].set(jnp.einsum("bkhd->bhdk", value))
        lengths = jnp.asarray(length if lengths is None else lengths, jnp.int32)
        cache["index"].value = jnp.broadcast_to(lengths, (key.shape[0],))
        cache["start"].value = start

    def _step(self, cache: dict[str, nn.Variable], key: Array, value: Array) -> tuple[Array, Array, Array]:
        """Appends one token per row; returns all keys, all values, and a mask of those that the token may attend to."""
        if key.shape[1] != 1:
            raise ValueError(f"a decoding step takes one token per row, got {key.shape[1]}")
        slots = jnp.arange(cache["key"].value.shape[-1])[None, None, None, :]
        index = cache["index"].value.reshape(-1, 1, 1, 1)
        for name, new in (("key", key), ("value", value)):
            cache[name].value = jnp.where(slots == index, jnp.einsum("bkhd->bhdk", new), cache[name].value)
        cache["index"].value = cache["index"].value + 1
        seen = (slots <= index) & (slots >= cache["start"].value.reshape(-1, 1, 1, 1))
        key, value = (jnp.einsum("bhdk->bkhd", cache[name].value) for name in ("key", "value"))
        return key, value, seen[:, None]
