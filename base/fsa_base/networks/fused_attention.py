"""Attention in one kernel of cuDNN, which never stores the attention weights."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from fsa_base.errors import SettingError

MASKED = -(2.0**41)
"""Addend of masked logits, as in JAX: lower ones gave wrong differences in cuDNN."""


def cudnn_attention(
    query: Float[Array, "batch queries heads head_dim"],
    key: Float[Array, "batch keys kv_heads head_dim"],
    value: Float[Array, "batch keys kv_heads head_dim"],
    mask: Bool[Array, "#batch 1 queries keys"],
    bias: Float[Array, "1 heads queries keys"] | None,
    *,
    scale: float,
    causal: bool,
) -> Float[Array, "batch queries heads head_dim"]:
    """Attention by cuDNN, for bfloat16 activations on NVIDIA GPUs.

    Mask and bias are one bfloat16 array, (batch, heads, queries, keys) where there is a bias, which XLA
    computes once for all layers that use the same. With cuDNN's own packed segments it would not be needed, but JAX has
    them in a private function only, and reads wrong keys there with grouped queries (jax-ml/jax#39521). For the same
    reason key and value heads are repeated here.

    Args:
      query: queries.
      key: keys; each head is for ``heads / kv_heads`` neighbouring query heads.
      value: values.
      mask: true where a query may attend to a key.
      bias: addend of the logits.
      scale: factor of the logits, before ``bias`` is added.
      causal: whether ``mask`` is false for all keys after the query, so that the kernel need not look at them.

    Raises:
      SettingError: JAX finds no cuDNN, or cuDNN does not take these shapes.
    """
    groups = query.shape[2] // key.shape[2]
    key, value = (jnp.repeat(x, groups, axis=2) for x in (key, value))
    # In bfloat16, because cuDNN's gradient of a float32 bias gave NaN (jax-ml/jax#32242).
    logits_bias = jnp.zeros((), query.dtype) if bias is None else bias.astype(query.dtype)
    logits_bias = jnp.where(mask, logits_bias, jnp.asarray(MASKED, query.dtype))
    try:
        return jax.nn.dot_product_attention(
            query, key, value, bias=logits_bias, scale=scale, is_causal=causal, implementation="cudnn"
        )
    except (RuntimeError, NotImplementedError, ValueError) as error:
        raise SettingError(
            "attention_implementation",
            expected="for 'cudnn' an NVIDIA GPU, JAX for CUDA with cuDNN, and shapes that its attention takes",
            found=str(error),
            fix="set it to 'plain'",
        ) from error
