"""T5 and its hyper-parameters: an encoder-decoder in Flax with T5X's parameter names, shapes and logical axes.

The parameter tree and the call signatures are those that T5X expects of a module (T5X contract, section 5), so the same
student trains on both engines. ``positions`` are accepted but ignored: relative positions do not need them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Num

from fsa_base.errors import require_float
from fsa_base.networks.layers import (
    Embedding,
    Head,
    LayerNorm,
    Mlp,
    Mode,
    apply_layers,
    check_config,
    constrain,
    dropout,
    output_logits,
)
from fsa_base.networks.t5.attention import MultiHeadAttention, RelativePositionBias, attention_mask, causal_mask


@dataclass(frozen=True)
class T5Config:
    """Hyper-parameters of a T5 model. T5 v1.0 and v1.1 differ in ``mlp_activations`` and ``logits_via_embedding``.

    Args:
      vocab_size: number of rows of the embedding table; larger than the number of ids if the table is padded.
      dtype: dtype of the activations; parameters and layer norms are always float32, logits by default.
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
      logits_in_dtype: whether logits have ``dtype``, too, instead of float32; the loss is float32 in both cases.
      embedding_gradient: how the gradients of the embedding table are summed: ``"scatter"`` or, as a matrix product,
        ``"one_hot"`` (:func:`fsa_base.networks.layers.lookup`).
      attention_implementation: how attention is computed where there is no cache: ``"plain"``; ``"blocks"``, which
        does not compute most of the weights of later keys (:mod:`fsa_base.networks.causal_attention`);
        ``"recompute"``, which computes the weights again in the backward pass instead of keeping them, also in blocks;
        or ``"cudnn"``, a fused kernel for NVIDIA GPUs and bfloat16 activations.

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
    logits_in_dtype: bool = False
    embedding_gradient: str = "scatter"
    attention_implementation: str = "plain"

    def __post_init__(self):
        # gin gives dtypes as strings and sequences as lists; fields of a Flax module must be hashable.
        require_float("T5Config.dtype", self.dtype)
        object.__setattr__(self, "dtype", jnp.dtype(self.dtype))
        object.__setattr__(self, "mlp_activations", tuple(self.mlp_activations))
        check_config(self)


Tokens = Num[Array, "batch length"]


def attention(config: Any, mode: Mode, name: str, *, fixed_context: bool = False) -> MultiHeadAttention:
    """An attention layer for ``config``; with ``fixed_context``, one to the output of an encoder."""
    return MultiHeadAttention(
        num_heads=config.num_heads,
        head_dim=config.head_dim,
        dropout_rate=config.dropout_rate,
        mode=mode,
        dtype=config.dtype,
        float32_logits=config.float32_attention_logits,
        implementation=config.attention_implementation,
        fixed_context=fixed_context,
        name=name,
    )


def mlp(config: Any, mode: Mode) -> Mlp:
    """A feed-forward layer for ``config``."""
    return Mlp(
        config.mlp_dim, config.mlp_activations, config.dropout_rate, mode.enable_dropout, config.dtype, name="mlp"
    )


def relative_position_bias(config: Any, *, bidirectional: bool) -> RelativePositionBias:
    """The relative-position bias of a stack of layers."""
    return RelativePositionBias(config.num_heads, bidirectional, config.dtype, name="relpos_bias")


class EncoderLayer(nn.Module):
    """Self-attention and a feed-forward layer; each has a normalised input and adds to the residual stream."""

    config: T5Config
    mode: Mode

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "batch length embed"],
        mask: Bool[Array, "batch 1 length length"],
        bias: Float[Array, "1 heads length length"],
    ) -> tuple[Float[Array, "batch length embed"], None]:
        config, mode = self.config, self.mode
        normed = LayerNorm(config.dtype, name="pre_attention_layer_norm")(x)
        attended = attention(config, mode, "attention")(normed, normed, mask, bias)
        x = x + dropout(attended, config.dropout_rate, mode.enable_dropout)
        normed = LayerNorm(config.dtype, name="pre_mlp_layer_norm")(x)
        x = x + dropout(mlp(config, mode)(normed), config.dropout_rate, mode.enable_dropout)
        return constrain(x, "batch", "length", "embed"), None


class DecoderLayer(nn.Module):
    """Causal self-attention, attention to the encoder's output, and a feed-forward layer."""

    config: T5Config
    mode: Mode

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "batch length embed"],
        encoded: Float[Array, "batch inputs embed"],
        mask: Bool[Array, "#batch 1 length length"] | None,
        bias: Float[Array, "1 heads _ _"],
        cross_mask: Bool[Array, "_ 1 #length inputs"],
        prefill_lengths: Int[Array, " batch"] | None,
    ) -> tuple[Float[Array, "batch length embed"], None]:
        config, mode = self.config, self.mode
        normed = LayerNorm(config.dtype, name="pre_self_attention_layer_norm")(x)
        attended = attention(config, mode, "self_attention")(normed, normed, mask, bias, prefill_lengths)
        x = x + dropout(attended, config.dropout_rate, mode.enable_dropout)
        normed = LayerNorm(config.dtype, name="pre_cross_attention_layer_norm")(x)
        attend = attention(config, mode, "encoder_decoder_attention", fixed_context=True)
        attended = attend(normed, encoded, cross_mask)
        x = x + dropout(attended, config.dropout_rate, mode.enable_dropout)
        normed = LayerNorm(config.dtype, name="pre_mlp_layer_norm")(x)
        x = x + dropout(mlp(config, mode)(normed), config.dropout_rate, mode.enable_dropout)
        return constrain(x, "batch", "length", "embed"), None


class Encoder(nn.Module):
    """The stack of encoder layers over embedded tokens."""

    config: T5Config

    @nn.compact
    def __call__(
        self, x: Float[Array, "batch length embed"], mask: Bool[Array, "batch 1 length length"], mode: Mode
    ) -> Float[Array, "batch length embed"]:
        config = self.config
        bias = relative_position_bias(config, bidirectional=True)(x.shape[1], x.shape[1])
        x = dropout(x, config.dropout_rate, mode.enable_dropout)
        x = apply_layers(EncoderLayer, config, mode, config.num_encoder_layers, x, mask, bias)
        x = LayerNorm(config.dtype, name="encoder_norm")(x)
        return dropout(x, config.dropout_rate, mode.enable_dropout, over_length=False)


class Decoder(nn.Module):
    """The stack of decoder layers over embedded tokens, and the logits; tied logits use ``embedding``."""

    config: T5Config
    embedding: Embedding

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "batch length embed"],
        encoded: Float[Array, "batch inputs embed"],
        mask: Bool[Array, "#batch 1 length length"] | None,
        cross_mask: Bool[Array, "_ 1 #length inputs"],
        mode: Mode,
        max_decode_length: int | None = None,
        prefill_lengths: Int[Array, " batch"] | None = None,
        head: Head | None = None,
    ) -> Any:
        config = self.config
        length = (max_decode_length if mode.decode else None) or x.shape[1]
        # A step needs the bias of one query, and that of the last position has the distances of all others, too.
        queries = 1 if mode.decode else length
        bias = relative_position_bias(config, bidirectional=False)(queries, length, length - queries)
        x = dropout(x, config.dropout_rate, mode.enable_dropout)
        context = (encoded, mask, bias, cross_mask, prefill_lengths)
        x = apply_layers(DecoderLayer, config, mode, config.num_decoder_layers, x, *context)
        x = LayerNorm(config.dtype, name="decoder_norm")(x)
        x = dropout(x, config.dropout_rate, mode.enable_dropout)
        return output_logits(config, self.embedding, x, head)


class Transformer(nn.Module):
    """T5 as an encoder-decoder. Tokens of id 0 are padding, which no other token attends to."""

    config: T5Config

    @property
    def scan_layers(self) -> bool:
        """Whether cache leaves have a leading axis of layers; T5X's decoding reads this."""
        return self.config.scan_layers

    def setup(self):
        config = self.config
        self.token_embedder = Embedding(config.vocab_size, config.emb_dim, config.dtype, config.embedding_gradient)
        self.encoder = Encoder(config)
        self.decoder = Decoder(config, self.token_embedder)

    def encode(
        self,
        encoder_input_tokens: Tokens,
        encoder_segment_ids: Tokens | None = None,
        enable_dropout: bool = True,
    ) -> Float[Array, "batch length embed"]:
        """The encoder's output, (batch, length, embed)."""
        mask = attention_mask(encoder_input_tokens, encoder_input_tokens, encoder_segment_ids, encoder_segment_ids)
        return self.encoder(self.token_embedder(encoder_input_tokens), mask, Mode(enable_dropout))

    def decode(
        self,
        encoded: Float[Array, "batch inputs embed"],
        encoder_input_tokens: Num[Array, "batch inputs"],
        decoder_input_tokens: Num[Array, "batch targets"],
        decoder_target_tokens: Num[Array, "batch targets"],
        encoder_segment_ids: Num[Array, "batch inputs"] | None = None,
        decoder_segment_ids: Num[Array, "batch targets"] | None = None,
        decoder_positions: Num[Array, "batch targets"] | None = None,
        enable_dropout: bool = True,
        decode: bool = False,
        max_decode_length: int | None = None,
        prefill: bool = False,
        prefill_lengths: Int[Array, " batch"] | None = None,
        head: Head | None = None,
    ) -> Any:
        """Logits of the target tokens (batch, targets, vocab), from the encoder's output.

        Args:
          encoded: output of the encoder. A step that follows a prefill does not read it.
          encoder_input_tokens: input tokens, which mark the padding in ``encoded``. In a step that follows a prefill,
            there may be several adjacent rows of targets, such as beams, for each row of inputs.
          decoder_input_tokens: targets shifted right; in mode ``decode`` the last token of each row.
          decoder_target_tokens: targets, which mark the padding; ignored in modes ``decode`` and ``prefill``.
          encoder_segment_ids: number of the packed example of each input token, from 1.
          decoder_segment_ids: number of the packed example of each target token, from 1.
          decoder_positions: ignored.
          enable_dropout: whether dropout is used (training).
          decode: whether to read and write the mutable collection ``cache``, which a call of the whole module with
            ``decode=True`` and full-length targets creates.
          max_decode_length: length of that cache.
          prefill: whether to fill the cache with all ``decoder_input_tokens``.
          prefill_lengths: number of these tokens to use, by row; the next step writes after them.
          head: computes the result in place of logits, if not None.
        """
        del decoder_positions
        mode = Mode(enable_dropout, decode, prefill, causal=True)
        if decode or prefill:
            mask = None if decode else causal_mask(decoder_input_tokens.shape[1])
            cross_mask = (encoder_input_tokens > 0)[:, None, None, :]
        else:
            mask = causal_mask(decoder_target_tokens.shape[1]) & attention_mask(
                decoder_target_tokens, decoder_target_tokens, decoder_segment_ids, decoder_segment_ids
            )
            cross_mask = attention_mask(
                decoder_target_tokens, encoder_input_tokens, decoder_segment_ids, encoder_segment_ids
            )
        embedded = self.token_embedder(decoder_input_tokens)
        return self.decoder(embedded, encoded, mask, cross_mask, mode, max_decode_length, prefill_lengths, head)

    def __call__(
        self,
        encoder_input_tokens: Num[Array, "batch inputs"],
        decoder_input_tokens: Num[Array, "batch targets"],
        decoder_target_tokens: Num[Array, "batch targets"],
        encoder_segment_ids: Num[Array, "batch inputs"] | None = None,
        decoder_segment_ids: Num[Array, "batch targets"] | None = None,
        encoder_positions: Num[Array, "batch inputs"] | None = None,
        decoder_positions: Num[Array, "batch targets"] | None = None,
        *,
        enable_dropout: bool = True,
        decode: bool = False,
        head: Head | None = None,
    ) -> Any:
        """Encodes and decodes; returns logits of the target tokens, (batch, targets, vocab). Args as in ``decode``."""
        del encoder_positions
        encoded = self.encode(encoder_input_tokens, encoder_segment_ids, enable_dropout)
        return self.decode(
            encoded,
            encoder_input_tokens,
            decoder_input_tokens,
            decoder_target_tokens,
            encoder_segment_ids,
            decoder_segment_ids,
            decoder_positions,
            enable_dropout=enable_dropout,
            decode=decode,
            head=head,
        )
