"""Hyper-parameters of a T5 student, and the switches of one call of it."""

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
"""What ``T5Config.mlp_activations`` may name."""


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


def check_config(config: Any) -> None:
    """Checks what every transformer configuration here has in common.

    Raises:
      SettingError: a value that no model can have.
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
    """What one call of a network does: all of it is known when the call is compiled.

    Args:
      enable_dropout: training.
      decode: one token a row, with keys and values of earlier tokens in the ``cache`` collection.
      prefill: whole prompts, whose keys and values fill the cache.
    """

    enable_dropout: bool = False
    decode: bool = False
    prefill: bool = False
