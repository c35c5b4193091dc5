"""Hyper-parameters of a decoder-only student."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp
import numpy as np

from fsa_base.errors import SettingError, require_float
from fsa_base.networks.layers import check_speed


@dataclass(frozen=True)
class RopeScaling:
    """Llama 3's scaling of rotary frequencies, which extends the context beyond that of the first pretraining.

    Args:
      factor: factor by which wavelengths longer than ``original_length / low_frequency`` are stretched.
      low_frequency: number of rotations in the original context below which a frequency is fully scaled.
      high_frequency: number of rotations in the original context above which a frequency is not scaled; frequencies
        in between are interpolated.
      original_length: context length in tokens before scaling.
    """

    factor: float = 32.0
    low_frequency: float = 1.0
    high_frequency: float = 4.0
    original_length: int = 8192


@dataclass(frozen=True)
class LlamaConfig:
    """Hyper-parameters of a decoder-only model. The model families differ only in their values.

    Llama-3.2 has ``rope_scaling``; Qwen2.5 has ``attention_bias``; Qwen3 has ``query_key_norm`` and a ``head_dim`` that
    is not ``emb_dim / num_heads``.

    Args:
      vocab_size: number of rows of the embedding table.
      emb_dim: width of the residual stream.
      num_heads: number of query heads.
      num_kv_heads: number of key and value heads; each is shared by ``num_heads / num_kv_heads`` query heads.
      num_layers: number of decoder layers.
      head_dim: width of one head; must be even.
      mlp_dim: width of the gated feed-forward layers.
      rope_theta: base of the rotary wavelengths.
      rope_scaling: scaling of the rotary frequencies; None for no scaling.
      norm_epsilon: number that is added to the mean square in every norm.
      attention_bias: whether the query, key and value projections have biases.
      query_key_norm: whether queries and keys of each head are normalised before they are rotated.
      logits_via_embedding: whether the output projection is the embedding table, without scaling.
      dtype: dtype of the activations; parameters, norms and softmax are float32, logits by default.
      scan_layers: whether to compile one layer and loop over it, with parameters stacked along a leading axis
        ``layers``.
      remat: whether to recompute each layer's activations in the backward pass instead of keeping them.
      logits_in_dtype: whether logits have ``dtype``, too, instead of float32; the loss is float32 in both cases.
      embedding_gradient: how the gradients of the embedding table are summed: ``"scatter"`` or, as a matrix product,
        ``"one_hot"`` (:func:`fsa_base.networks.layers.lookup`).
      attention_implementation: how attention is computed where there is no cache: ``"plain"``; ``"blocks"``, which
        does not compute most of the weights of later keys (:mod:`fsa_base.networks.causal_attention`);
        ``"recompute"``, which computes the weights again in the backward pass instead of keeping them, also in blocks;
        or ``"cudnn"``, a fused kernel for NVIDIA GPUs and bfloat16 activations.

    Raises:
      SettingError: a value is impossible for a model.
    """

    vocab_size: int
    emb_dim: int
    num_heads: int
    num_kv_heads: int
    num_layers: int
    head_dim: int
    mlp_dim: int
    rope_theta: float = 10000.0
    rope_scaling: RopeScaling | None = None
    norm_epsilon: float = 1e-6
    attention_bias: bool = False
    query_key_norm: bool = False
    logits_via_embedding: bool = True
    dtype: Any = jnp.float32
    scan_layers: bool = False
    remat: bool = False
    logits_in_dtype: bool = False
    embedding_gradient: str = "scatter"
    attention_implementation: str = "blocks"

    def __post_init__(self):
        # gin gives dtypes as strings; fields of a Flax module must be hashable.
        require_float("LlamaConfig.dtype", self.dtype)
        object.__setattr__(self, "dtype", jnp.dtype(self.dtype))
        for name in ("vocab_size", "emb_dim", "num_heads", "num_kv_heads", "num_layers", "head_dim", "mlp_dim"):
            value = getattr(self, name)
            if not isinstance(value, int) or value < 1:
                raise SettingError(
                    f"LlamaConfig.{name}", expected="a positive integer", found=repr(value), fix=f"set {name}"
                )
        if self.num_heads % self.num_kv_heads:
            raise SettingError(
                "LlamaConfig.num_kv_heads",
                expected=f"a divisor of num_heads={self.num_heads}",
                found=repr(self.num_kv_heads),
                fix="set num_kv_heads as in the model's config.json",
            )
        if self.head_dim % 2:
            raise SettingError(
                "LlamaConfig.head_dim",
                expected="an even number, because rotary embeddings rotate pairs",
                found=repr(self.head_dim),
                fix="set head_dim as in the model's config.json",
            )
        check_speed(self)


def rotary_frequencies(config: LlamaConfig) -> np.ndarray:
    """Angle in radians per position for each pair of head dimensions, float32 ``[head_dim / 2]``.

    The scaled form is Llama 3.1's, as in transformers' ``rope_type: llama3``.
    """
    exponents = np.arange(0, config.head_dim, 2, dtype=np.float32) / np.float32(config.head_dim)
    frequencies = (1.0 / np.power(np.float32(config.rope_theta), exponents)).astype(np.float32)
    scaling = config.rope_scaling
    if scaling is None:
        return frequencies
    turns = scaling.original_length * frequencies / (2 * math.pi)
    smooth = (turns - scaling.low_frequency) / (scaling.high_frequency - scaling.low_frequency)
    smooth = np.clip(smooth, 0.0, 1.0)
    return ((1 - smooth) * frequencies / scaling.factor + smooth * frequencies).astype(np.float32)
