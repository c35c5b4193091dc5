"""Encoder-decoders such as T5."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Int

from t5x import decoding, losses
from t5x.models.base import BaseTransformerModel, Batch, DecodeFn, Params, SeqioConverter, initial_tokens
from t5x.optimizers import OptimizerDef


class EncoderDecoderModel(BaseTransformerModel):
    """An encoder-decoder such as T5; see :class:`BaseTransformerModel` for the arguments.

    Args:
      module: its ``__call__``, ``encode`` and ``decode`` as in docs/engine.md.
      input_vocabulary: of the inputs.
      output_vocabulary: of the targets.
      optimizer_def: the optimizer.
      decode_fn: decoder of :meth:`predict_batch`.
      feature_converter_cls: SeqIO feature converter; ``seqio.EncDecFeatureConverter`` if None.
      label_smoothing: of the loss.
      z_loss: of the loss.
      loss_normalizing_factor: of the loss.
      default_decoder_params: arguments of ``decode_fn`` for every call.
    """

    FEATURE_CONVERTER_CLS = SeqioConverter("EncDecFeatureConverter")

    def __init__(
        self,
        module: nn.Module,
        input_vocabulary: Any,
        output_vocabulary: Any,
        optimizer_def: OptimizerDef | None,
        decode_fn: DecodeFn = decoding.beam_search,
        feature_converter_cls: Any = None,
        label_smoothing: float = 0.0,
        z_loss: float = 0.0,
        loss_normalizing_factor: losses.LossNormalizer = None,
        default_decoder_params: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(
            module,
            input_vocabulary,
            output_vocabulary,
            optimizer_def,
            decode_fn,
            label_smoothing,
            z_loss,
            loss_normalizing_factor,
        )
        if feature_converter_cls is not None:
            self.FEATURE_CONVERTER_CLS = feature_converter_cls
        self._default_decoder_params = dict(default_decoder_params or {})

    def get_initial_variables(
        self, rng: Array, input_shapes: Mapping[str, Any], input_types: Mapping[str, Any] | None = None
    ) -> Mapping[str, Any]:
        def ones(name: str, like: str | None = None) -> Array | None:
            return initial_tokens(input_shapes, input_types, name, like)

        return self.module.init(
            rng,
            ones("encoder_input_tokens"),
            ones("decoder_input_tokens"),
            ones("decoder_target_tokens", like="decoder_input_tokens"),
            encoder_positions=ones("encoder_positions"),
            decoder_positions=ones("decoder_positions"),
            encoder_segment_ids=ones("encoder_segment_ids"),
            decoder_segment_ids=ones("decoder_segment_ids"),
            decode=False,
            enable_dropout=False,
        )

    def _compute_logits(
        self,
        params: Params,
        batch: Batch,
        dropout_rng: Array | None = None,
        mutable: Any = False,
        other_variables: Mapping[str, Any] | None = None,
    ) -> Any:
        return self.module.apply(
            {"params": params, **(other_variables or {})},
            batch["encoder_input_tokens"],
            batch["decoder_input_tokens"],
            batch["decoder_target_tokens"],
            encoder_segment_ids=batch.get("encoder_segment_ids"),
            decoder_segment_ids=batch.get("decoder_segment_ids"),
            encoder_positions=batch.get("encoder_positions"),
            decoder_positions=batch.get("decoder_positions"),
            decode=False,
            enable_dropout=dropout_rng is not None,
            rngs=self._rngs(dropout_rng),
            mutable=mutable,
        )

    def predict_batch_with_aux(  # type: ignore[override]
        self,
        params: Params,
        batch: Batch,
        rng: Array | None = None,
        decoder_params: Mapping[str, Any] | None = None,
        return_all_decodes: bool | None = None,
        num_decodes: int | None = None,
        prompt_with_targets: bool = False,
    ) -> tuple[Array, dict[str, Array]]:
        """Decodes with a cache; decoded rows keep their end token, zeros follow it.

        Args:
          params: parameters.
          batch: of it ``encoder_input_tokens`` is read; ``decoder_input_tokens`` gives the length, and the prompt.
          rng: key of sampling.
          decoder_params: arguments of the decode function, over the model's defaults.
          return_all_decodes: whether to return every decode instead of the best.
          num_decodes: beams or samples per example; 1 if None.
          prompt_with_targets: whether decodes must begin with the tokens in ``decoder_input_tokens``.

        Returns:
          ids (batch, length) and ``{"scores": (batch,)}``; with ``return_all_decodes`` (batch, decodes, length) and
          (batch, decodes), the best last.
        """
        num_decodes = 1 if num_decodes is None else num_decodes
        options = {**self._default_decoder_params, **(decoder_params or {})}
        if rng is not None:
            options["decode_rng"] = rng
        encoder_tokens, decoder_tokens = batch["encoder_input_tokens"], batch["decoder_input_tokens"]
        encoded: Any = self.module.apply(
            {"params": params}, encoder_tokens, enable_dropout=False, method=self.module.encode
        )
        cache = self._empty_cache(params, encoder_tokens, decoder_tokens)
        prompts = jnp.zeros_like(decoder_tokens)
        if prompt_with_targets:
            # The end token of a prompt would end the decode before it begins.
            prompts = jnp.where(decoder_tokens == self.eos_id, 0, decoder_tokens)
        if "prefill" in inspect.signature(self.module.decode).parameters:
            options["initial_index"] = prompt_ends = _last_token(prompts)
            if prompt_with_targets:
                cache = self._prefilled_cache(params, cache, encoded, encoder_tokens, prompts, prompt_ends)
        encoded = decoding.repeat_for_decodes(encoded, num_decodes)
        encoder_tokens = decoding.repeat_for_decodes(encoder_tokens, num_decodes)

        def tokens_to_logits(state: decoding.DecodingState) -> tuple[Array, Any]:
            logits, changed = self.module.apply(
                {"params": params, "cache": state.cache},
                encoded,
                encoder_tokens,
                state.cur_token,
                state.cur_token,
                enable_dropout=False,
                decode=True,
                max_decode_length=decoder_tokens.shape[1],
                mutable=["cache"],
                method=self.module.decode,
            )
            return jnp.squeeze(logits, axis=1), changed["cache"]

        decodes, scores = self._decode(prompts, cache, tokens_to_logits, num_decodes, options)
        if return_all_decodes:
            return decodes, {"scores": scores}
        return decodes[:, -1, :], {"scores": scores[:, -1]}

    def _empty_cache(self, params: Params, encoder_tokens: Array, decoder_tokens: Array) -> Any:
        _, variables = self.module.apply(
            {"params": params},
            jnp.ones_like(encoder_tokens),
            jnp.ones_like(decoder_tokens),
            jnp.ones_like(decoder_tokens),
            decode=True,
            enable_dropout=False,
            mutable=["cache"],
        )
        return variables["cache"]

    def _prefilled_cache(
        self, params: Params, cache: Any, encoded: Array, encoder_tokens: Array, prompts: Array, prompt_ends: Array
    ) -> Any:
        """The cache after all tokens of the prompts but their last, in one pass."""
        _, filled = self.module.apply(
            {"params": params, "cache": cache},
            encoded,
            encoder_tokens,
            prompts,
            prompts,
            enable_dropout=False,
            prefill=True,
            prefill_lengths=prompt_ends,
            mutable=["cache"],
            method=self.module.decode,
        )
        return filled["cache"]


def _last_token(prompts: Int[Array, "batch length"]) -> Int[Array, " batch"]:
    """Position of the last token of every row, 0 where there is only the beginning token."""
    return jnp.max(jnp.where(prompts != 0, jnp.arange(prompts.shape[1])[None, :], 0), axis=1)
