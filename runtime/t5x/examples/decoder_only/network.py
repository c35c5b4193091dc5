"""A decoder-only language model, with optional attention in both directions within a prefix (PrefixLM).

It consists of T5's layers; the parameters are under ``decoder``, as in T5X.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Num

from fsa_base.errors import require_float
from fsa_base.networks.layers import Embedding, LayerNorm, Mode, apply_layers, check_config, constrain, dropout
from fsa_base.networks.t5.attention import attention_mask, causal_mask
from fsa_base.networks.t5.network import attention, mlp, output_logits, relative_position_bias

Tokens = Num[Array, "batch length"]


@dataclass(frozen=True)
class TransformerConfig:
    """The shape of a decoder-only model; fields are those of ``fsa_base.networks.t5.T5Config``, and ``num_layers``.

    Raises:
      SettingError: A value is invalid.
    """

    vocab_size: int
    dtype: Any = jnp.float32
    emb_dim: int = 512
    num_heads: int = 8
    num_layers: int = 6
    head_dim: int = 64
    mlp_dim: int = 2048
    mlp_activations: Sequence[str] = ("relu",)
    dropout_rate: float = 0.1
    logits_via_embedding: bool = False
    float32_attention_logits: bool = False
    scan_layers: bool = False
    remat: bool = False
    logits_in_dtype: bool = False
    embedding_gradient: str = "scatter"
    attention_implementation: str = "plain"

    def __post_init__(self):
        require_float("TransformerConfig.dtype", self.dtype)
        object.__setattr__(self, "dtype", jnp.dtype(self.dtype))
        object.__setattr__(self, "mlp_activations", tuple(self.mlp_activations))
        check_config(self)


class DecoderLayer(nn.Module):
    """Self-attention and feed-forward, each on a normed input and added to the residual stream."""

    config: TransformerConfig
    mode: Mode

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "batch length embed"],
        mask: Bool[Array, "#batch 1 length length"] | None,
        bias: Float[Array, "1 heads _ _"],
        prefill_lengths: Int[Array, " batch"] | None,
    ) -> tuple[Float[Array, "batch length embed"], None]:
        config, mode = self.config, self.mode
        normed = LayerNorm(config.dtype, name="pre_self_attention_layer_norm")(x)
        attended = attention(config, mode, "self_attention")(normed, normed, mask, bias, prefill_lengths)
        x = x + dropout(attended, config.dropout_rate, mode.enable_dropout, name="post_self_attention_dropout")
        normed = LayerNorm(config.dtype, name="pre_mlp_layer_norm")(x)
        hidden = mlp(config, mode)(normed)
        x = x + dropout(hidden, config.dropout_rate, mode.enable_dropout, name="post_mlp_dropout")
        return constrain(x, "batch", "length", "embed"), None


class Decoder(nn.Module):
    """Embedding, the stack of layers, and logits."""

    config: TransformerConfig

    @nn.compact
    def __call__(
        self,
        tokens: Tokens,
        mask: Bool[Array, "#batch 1 length length"] | None,
        mode: Mode,
        max_decode_length: int | None,
        prefill_lengths: Int[Array, " batch"] | None,
    ) -> Float[Array, "batch length vocab"]:
        config = self.config
        shape = (config.vocab_size, config.emb_dim)
        embedding = Embedding(*shape, config.dtype, config.embedding_gradient, name="token_embedder")
        x = embedding(tokens)
        length = (max_decode_length if mode.decode else None) or x.shape[1]
        bias = relative_position_bias(config, bidirectional=False)(length, length)
        x = dropout(x, config.dropout_rate, mode.enable_dropout, name="input_dropout")
        x = apply_layers(DecoderLayer, config, mode, config.num_layers, x, mask, bias, prefill_lengths)
        x = LayerNorm(config.dtype, name="decoder_norm")(x)
        x = dropout(x, config.dropout_rate, mode.enable_dropout, name="output_dropout")
        return output_logits(config, embedding, x)


class DecoderWrapper(nn.Module):
    """The language model. Tokens of id 0 are padding, which no other token attends to."""

    config: TransformerConfig

    @property
    def scan_layers(self) -> bool:
        """Whether cache leaves have a leading axis of layers; decoding reads this."""
        return self.config.scan_layers

    def setup(self):
        self.decoder = Decoder(self.config)

    def __call__(
        self,
        decoder_input_tokens: Tokens,
        decoder_target_tokens: Tokens,
        decoder_segment_ids: Tokens | None = None,
        decoder_positions: Tokens | None = None,
        decoder_causal_attention: Tokens | None = None,
        *,
        enable_dropout: bool = True,
        decode: bool = False,
        max_decode_length: int | None = None,
        prefill: bool = False,
        prefill_lengths: Int[Array, " batch"] | None = None,
    ) -> Float[Array, "batch length vocab"]:
        """Logits of the target tokens, (batch, length, vocab).

        Args:
          decoder_input_tokens: Targets shifted right; in mode ``decode`` the last token of each row.
          decoder_target_tokens: Used to find padding; not read in mode ``decode``.
          decoder_segment_ids: Number of the packed example to which a token belongs, from 1.
          decoder_positions: Not used, since T5 has relative positions.
          decoder_causal_attention: 1 for tokens of the prefix, which attend to each other in both directions.
          enable_dropout: True in training.
          decode: Read and write the mutable collection ``cache``. The first such call, on full-length inputs, creates
            it.
          max_decode_length: Length of that cache.
          prefill: Write all of ``decoder_input_tokens`` to the cache.
          prefill_lengths: Number of valid tokens in each row; the next step writes at this position.
        """
        del decoder_positions
        mask = None
        if not decode:
            mask = causal_mask(decoder_target_tokens.shape[1], decoder_causal_attention) & attention_mask(
                decoder_target_tokens, decoder_target_tokens, decoder_segment_ids, decoder_segment_ids
            )
        mode = Mode(enable_dropout, decode, prefill)
        return self.decoder(decoder_input_tokens, mask, mode, max_decode_length, prefill_lengths)
