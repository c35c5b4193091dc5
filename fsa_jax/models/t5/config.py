"""Hyper-parameters of a T5 student, and the mode of a call."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp

from fsa_jax.errors import SettingError, require_float

ACTIVATIONS = {
    "relu": jax.nn.relu,
    "gelu": jax.nn.gelu,  # the tanh approximation, as in T5 v1.1
    "silu": jax.nn.silu,
    "linear": lambda x: x,
}
"""Activation functions by the names that ``T5Config.mlp_activations`` may have."""


@dataclass(frozen=True)
class T5Config:
    """Hyper-parameters of a T5 model. T5 v1.0 and v1.1 differ in ``mlp_activations`` and ``logits_via_embedding``.

    Args:
      vocab_size: number of rows of the embedding table; larger than the number of ids if the table is padded.
      dtype: dtype of the activations; parameters, layer norms and logits are always float32.
      emb_dim: width of the residual stream.
      num_heads: number of attention heads.
      num_encoder_layers: number of encoder layers.
      num_decoder_layers: number of decoder layers.
      head_dim: width of one head; ``num_heads * head_dim`` need not be ``emb_dim``.
      mlp_dim: width of the feed-forward layers.
      mlp_activations: one activation, or two whose branches are multiplied (``("gelu", "linear")`` in T5 v1.1).
      dropout_rate: share of activations that are dropped in training.
      logits_via_embedding: whether the output projection is the embedding table (T5 v1.0), scaled by
        ``1/sqrt(emb_dim)``.
      float32_attention_logits: whether to compute attention logits and softmax in float32 for any ``dtype``.
      scan_layers: whether to compile one layer and loop over it, with parameters under ``layers`` with a leading axis
        ``layers`` instead of one subtree ``layers_<i>`` per layer. This compiles faster; checkpoints of the two layouts
        are not interchangeable.
      remat: whether to recompute each layer's activations in the backward pass instead of keeping them.

    Raises:
      SettingError: a value is impossible for a model.
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
        # gin gives dtypes as strings and sequences as lists; fields of a Flax module must be hashable.
        require_float("T5Config.dtype", self.dtype)
        object.__setattr__(self, "dtype", jnp.dtype(self.dtype))
        object.__setattr__(self, "mlp_activations", tuple(self.mlp_activations))
        check_config(self)


def check_config(config: Any) -> None:
    """Checks the fields that all transformer configurations of this project have.

    Raises:
      SettingError: a value is impossible for a model.
    """
    kind = type(config).__name__
    for name, value in vars(config).items():
        counts = name.startswith("num_") or name in ("vocab_size", "emb_dim", "head_dim", "mlp_dim")
        if counts and (not isinstance(value, int) or value < 1):
            raise SettingError(
                f"{kind}.{name}", expected="a positive integer", found=repr(value), fix=f"set {kind}.{name}"
            )
    unknown = [name for name in config.mlp_activations if name not in ACTIVATIONS]
    if unknown or not config.mlp_activations:
        raise SettingError(
            f"{kind}.mlp_activations",
            expected=f"one or more of {', '.join(ACTIVATIONS)}",
            found=repr(config.mlp_activations),
            fix="('relu',) for T5 v1.0, ('gelu', 'linear') for T5 v1.1",
        )
    if not 0.0 <= config.dropout_rate < 1.0:
        raise SettingError(
            f"{kind}.dropout_rate",
            expected="a number from 0 to below 1",
            found=repr(config.dropout_rate),
            fix="set the macro DROPOUT_RATE, e.g. 0.0 for pretraining, 0.1 for fine-tuning",
        )


@dataclass(frozen=True)
class Mode:
    """The mode of a call of a network. It is static: known when the call is compiled.

    Args:
      enable_dropout: whether dropout is used (training).
      decode: whether to decode one token per row, with keys and values of earlier tokens in the ``cache`` collection.
      prefill: whether to read whole prompts and store their keys and values in the cache.
    """

    enable_dropout: bool = False
    decode: bool = False
    prefill: bool = False
