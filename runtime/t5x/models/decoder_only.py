"""Language models, with or without a prefix."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array

from t5x import decoding, losses
from t5x.models.base import BaseTransformerModel, Batch, DecodeFn, Params, SeqioConverter, initial_tokens
from t5x.optimizers import OptimizerDef


class DecoderOnlyModel(BaseTransformerModel):
    """A language model, with or without a prefix; see :class:`BaseTransformerModel` for the arguments.

    Args:
      module: its ``__call__`` as in docs/engine.md.
      vocabulary: of inputs and targets.
      optimizer_def: the optimizer.
      decode_fn: decoder of :meth:`predict_batch`.
      inputs_bidirectional_attention: whether tokens of the prefix attend to all of it.
      feature_converter_cls: SeqIO feature converter; ``seqio.DecoderFeatureConverter`` if None.
      label_smoothing: of the loss.
      z_loss: of the loss.
      loss_normalizing_factor: of the loss.
    """

    FEATURE_CONVERTER_CLS = SeqioConverter("DecoderFeatureConverter")

    def __init__(
        self,
        module: nn.Module,
        vocabulary: Any,
        optimizer_def: OptimizerDef | None,
        decode_fn: DecodeFn = decoding.temperature_sample,
        inputs_bidirectional_attention: bool = False,
        feature_converter_cls: Any = None,
        label_smoothing: float = 0.0,
        z_loss: float = 0.0,
        loss_normalizing_factor: losses.LossNormalizer = None,
    ) -> None:
        super().__init__(
            module,
            vocabulary,
            vocabulary,
            optimizer_def,
            decode_fn,
            label_smoothing,
            z_loss,
            loss_normalizing_factor,
        )
        if feature_converter_cls is not None:
            self.FEATURE_CONVERTER_CLS = feature_converter_cls
        self._inputs_bidirectional_attention = inputs_bidirectional_attention

    def get_initial_variables(
        self, rng: Array, input_shapes: Mapping[str, Any], input_types: Mapping[str, Any] | None = None
    ) -> Mapping[str, Any]:
        tokens = initial_tokens(input_shapes, input_types, "decoder_input_tokens")
        return self.module.init(rng, tokens, tokens, enable_dropout=False)

    def _causal_attention(self, batch: Batch) -> Array | None:
        return batch.get("decoder_causal_attention") if self._inputs_bidirectional_attention else None

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
            batch["decoder_input_tokens"],
            batch["decoder_target_tokens"],
            decoder_segment_ids=batch.get("decoder_segment_ids"),
            decoder_positions=batch.get("decoder_positions"),
            decoder_causal_attention=self._causal_attention(batch),
            rngs=self._rngs(dropout_rng),
            decode=False,
            enable_dropout=dropout_rng is not None,
            mutable=mutable,
        )

    def predict_batch_with_aux(  # type: ignore[override]
        self,
        params: Params,
        batch: Batch,
        rng: Array | None = None,
        *,
        return_all_decodes: bool = False,
        num_decodes: int = 1,
        decoder_params: Mapping[str, Any] | None = None,
    ) -> tuple[Array, dict[str, Array]]:
        """Continues the prefix of every example; the prefix enters the cache in one pass.

        Args:
          params: parameters.
          batch: ``decoder_input_tokens`` and ``decoder_causal_attention``, which is 1 on the beginning token and the
            prefix, must be there.
          rng: key of sampling.
          return_all_decodes: whether to return every decode instead of the best.
          num_decodes: samples or beams per example.
          decoder_params: arguments of the decode function.

        Returns:
          As :meth:`EncoderDecoderModel.predict_batch_with_aux`; the prefix is cut off.
        """
        options = dict(decoder_params or {})
        if rng is not None:
            options["decode_rng"] = rng
        tokens, prefix = batch["decoder_input_tokens"], batch["decoder_causal_attention"]
        prompts = tokens * prefix
        prefix_lengths = jnp.sum(prefix, axis=-1) - 1  # The beginning token is marked too.
        cache = self._prefilled_cache(params, prompts, prefix, prefix_lengths)

        def tokens_to_logits(state: decoding.DecodingState) -> tuple[Array, Any]:
            logits, changed = self.module.apply(
                {"params": params, "cache": state.cache},
                state.cur_token,
                state.cur_token,
                enable_dropout=False,
                decode=True,
                max_decode_length=tokens.shape[1],
                mutable=["cache"],
            )
            return jnp.squeeze(logits, axis=1), changed["cache"]

        options = {"initial_index": prefix_lengths, **options}
        decodes, scores = self._decode(prompts, cache, tokens_to_logits, num_decodes, options)
        decodes = decoding.drop_left(decodes, prefix_lengths[:, None])
        if return_all_decodes:
            return decodes, {"scores": scores}
        return decodes[:, -1, :], {"scores": scores[:, -1]}

    def _prefilled_cache(self, params: Params, prompts: Array, prefix: Array, prefix_lengths: Array) -> Any:
        _, empty = self.module.apply(
            {"params": params},
            jnp.ones_like(prompts),
            jnp.ones_like(prompts),
            enable_dropout=False,
            decode=True,
            mutable=["cache"],
        )
        _, filled = self.module.apply(
            {"params": params, "cache": empty["cache"]},
            prompts,
            jnp.ones_like(prompts),  # The beginning token, of id 0, is no padding.
            decoder_causal_attention=prefix if self._inputs_bidirectional_attention else None,
            enable_dropout=False,
            decode=False,
            prefill=True,
            prefill_lengths=prefix_lengths,
            mutable=["cache"],
        )
        return filled["cache"]
