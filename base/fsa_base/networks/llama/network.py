"""The decoder-only student in Flax, with the call signature of T5X's decoder-only modules (T5X contract, section 5).

Parameters are under ``decoder``: ``token_embedder``, ``layers_<i>`` (or ``layers``, stacked), ``decoder_norm`` and, if
the embedding is not the output projection, ``logits_dense``.
"""

from __future__ import annotations

import flax.linen as nn
import jax.numpy as jnp
from flax.linen.partitioning import param_with_axes
from jaxtyping import Array, Bool, Float, Int, Num

from fsa_base.networks.layers import (
    LayerNorm,
    Mlp,
    Mode,
    Unprojected,
    apply_layers,
    constrain,
    logits_dtype,
    lookup,
)
from fsa_base.networks.llama.attention import GroupedQueryAttention, kernel_init
from fsa_base.networks.llama.config import LlamaConfig

Tokens = Num[Array, "batch length"]


class TokenEmbedder(nn.Module):
    """The embedding table, which may also serve as the output projection."""

    config: LlamaConfig

    def setup(self):
        shape = (self.config.vocab_size, self.config.emb_dim)
        self.embedding = param_with_axes("embedding", kernel_init, shape, jnp.float32, axes=("vocab", "embed"))

    def __call__(self, ids: Int[Array, "batch length"]) -> Float[Array, "batch length embed"]:
        """Rows of the table."""
        rows: Array = lookup(self.embedding, ids, self.config.dtype, self.config.embedding_gradient)
        return constrain(rows, "batch", "length", "embed")


class OutputMatrix(nn.Module):
    """The matrix from which logits are computed if the embedding table is not used for it: a ``kernel``."""

    config: LlamaConfig

    @nn.compact
    def __call__(self) -> Float[Array, "embed vocab"]:
        shape = (self.config.emb_dim, self.config.vocab_size)
        return param_with_axes("kernel", kernel_init, shape, jnp.float32, axes=("embed", "vocab"))


class DecoderLayer(nn.Module):
    """Self-attention and a gated feed-forward layer; each has a normalised input and adds to the residual stream."""

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
    ) -> tuple[Float[Array, "batch length embed"], None]:
        config, mode = self.config, self.mode
        normed = LayerNorm(config.dtype, config.norm_epsilon, name="pre_attention_layer_norm")(x)
        attention = GroupedQueryAttention(config, mode, name="attention")
        x = x + attention(normed, mask, positions, start, prefill_lengths)
        normed = LayerNorm(config.dtype, config.norm_epsilon, name="pre_mlp_layer_norm")(x)
        x = x + Mlp(config.mlp_dim, ("silu", "linear"), 0.0, False, config.dtype, name="mlp")(normed)
        return constrain(x, "batch", "length", "embed"), None


class Decoder(nn.Module):
    """Embedding, layers, final norm and, with ``project``, logits."""

    config: LlamaConfig
    mode: Mode
    project: bool = True

    @nn.compact
    def __call__(
        self,
        tokens: Int[Array, "batch length"],
        mask: Bool[Array, "#batch 1 1 length length"],
        positions: Int[Array, "#batch length"],
        start: Int[Array, " batch"],
        prefill_lengths: Int[Array, " batch"] | None,
    ) -> Float[Array, "batch length vocab"] | Unprojected:
        config = self.config
        embedder = TokenEmbedder(config, name="token_embedder")
        context = (mask, positions, start, prefill_lengths)
        x = apply_layers(DecoderLayer, config, self.mode, config.num_layers, embedder(tokens), *context)
        x = LayerNorm(config.dtype, config.norm_epsilon, name="decoder_norm")(x)
        dtype = logits_dtype(config)
        tied = config.logits_via_embedding
        matrix = embedder.embedding if tied else OutputMatrix(config, name="logits_dense")().T
        unprojected = Unprojected(x.astype(dtype), matrix.astype(dtype))
        return jnp.dot(unprojected.states, unprojected.matrix.T) if self.project else unprojected


class LlamaTransformer(nn.Module):
    """A decoder-only student.

    No token id means padding: id 0 is ``!`` in the vocabularies of Llama 3 and Qwen. Padding on the right has no effect
    (attention is causal). Segment ids separate packed examples and mark padding on the left.
    """

    config: LlamaConfig

    @property
    def scan_layers(self) -> bool:
        """Whether cache leaves have a leading axis of layers; T5X's decoding reads this."""
        return self.config.scan_layers

    @nn.compact
    def __call__(
        self,
        decoder_input_tokens: Tokens,
        decoder_target_tokens: Tokens | None = None,
        decoder_segment_ids: Tokens | None = None,
        decoder_positions: Tokens | None = None,
        decoder_causal_attention: Tokens | None = None,
        *,
        enable_dropout: bool = True,
        decode: bool = False,
        max_decode_length: int | None = None,
        prefill: bool = False,
        prefill_lengths: Int[Array, " batch"] | None = None,
        project: bool = True,
    ) -> Float[Array, "batch length vocab"] | Unprojected:
        """Logits of the next token, for each token.

        Args:
          decoder_input_tokens: token ids; one per row in a decoding step.
          decoder_target_tokens: ignored; the loss decides which targets count.
          decoder_segment_ids: segment of each token; tokens attend only to tokens of their segment, and 0 is padding.
          decoder_positions: position of each token in its example; by default counted from the first token of the row
            that is not padding.
          decoder_causal_attention: 1 for tokens of a prefix, which attend to each other in both directions.
          enable_dropout: ignored; T5X passes it, but these models have no dropout.
          decode: whether to decode: the first call creates the cache, later calls take one step.
          max_decode_length: ignored; T5X passes it, but the cache has a fixed length.
          prefill: whether to write the keys and values of the tokens into the cache.
          prefill_lengths: number of tokens of each row to use, including padding on the left; all by default.
          project: whether to return logits; otherwise what they are computed from.
        """
        tokens = decoder_input_tokens.astype(jnp.int32)
        batch, length = tokens.shape
        mask = jnp.tri(length, dtype=bool)[None]
        start = jnp.zeros((batch,), jnp.int32)
        if decoder_causal_attention is not None:
            prefix = decoder_causal_attention > 0
            mask = mask | (prefix[:, :, None] & prefix[:, None, :])
        if decoder_segment_ids is not None:
            segments = decoder_segment_ids
            mask = mask & (segments[:, :, None] == segments[:, None, :]) & (segments > 0)[:, None, :]
            start = jnp.argmax(segments > 0, axis=1).astype(jnp.int32)
        if decoder_positions is None:
            decoder_positions = jnp.maximum(jnp.arange(length)[None, :] - start[:, None], 0)
        positions = decoder_positions.astype(jnp.int32)
        mode = Mode(decode=decode, prefill=prefill, causal=decoder_causal_attention is None)
        return Decoder(self.config, mode, project, name="decoder")(
            tokens, mask[:, None, None], positions, start, prefill_lengths
        )
