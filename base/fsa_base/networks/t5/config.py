"""Hyper-parameters of a T5 student."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp

from fsa_base.errors import require_float
from fsa_base.networks.layers import check_config


@dataclass(frozen=True)
class T5Config:
    """A T5 model's shape. T5 v1.0 and v1.1 differ in ``mlp_activations`` and ``logits_via_embedding``.

    Args:
      vocab_size: rows of the embedding table; more than the vocabulary's ids, where it is padded.
      dtype: of the activations; parameters, layer norms and logits are always float32.
      emb_dim: width of the residual stream.
      num_heads: attention heads.
      num_encoder_layers: layers of the encoder.
      num_decoder_layers: layers of the decoder.
      head_dim: width of one head; ``num_heads * head_dim`` need not be ``emb_dim``.
      mlp_dim: width of the feed-forward layers.
      mlp_activations: one activation, or two whose branches are multiplied (``("gelu", "linear")`` in T5 v1.1).
      dropout_rate: share of activations that training drops.
      logits_via_embedding: the output projection is the embedding table (T5 v1.0), scaled by ``1/sqrt(emb_dim)``.
      float32_attention_logits: computes attention logits and softmax in float32 whatever ``dtype`` is.
      scan_layers: one compiled layer looped over, its parameters under ``layers`` with a leading axis ``layers``,
        in place of one subtree ``layers_<i>`` each. Compiles faster; such checkpoints fit only such models.
      remat: recomputes each layer's activations in the backward pass in place of keeping them.

    Raises:
      SettingError: a value that no model can have.
    """

    vocab_size: int
    dtype: Any = jnp.float32
    emb_dim: int = 512
    num_heads: int = 8
    num_encoder_layers: int = 6
    num_decoder_layers: int = 6
    head_dim: int = 64
    mlp_dim: int = 2048
    mlp_activations: Sequence[str] = ("relu",)
    dropout_rate: float = 0.1
    logits_via_embedding: bool = False
    float32_attention_logits: bool = False
    scan_layers: bool = False
    remat: bool = False

    def __post_init__(self):
        # gin writes dtypes as strings and sequences as lists; a module's fields must be hashable.
        require_float("T5Config.dtype", self.dtype)
        object.__setattr__(self, "dtype", jnp.dtype(self.dtype))
        object.__setattr__(self, "mlp_activations", tuple(self.mlp_activations))
        check_config(self)
