"""Transformers as the engine sees them: a network, vocabularies, an optimizer, and what to do with a batch.

A batch is a dict of int32 arrays (batch, length) under SeqIO's names: ``encoder_input_tokens``,
``decoder_input_tokens``, ``decoder_target_tokens``, ``decoder_loss_weights``, packed ones also
``{encoder,decoder}_{segment_ids,positions}``; decoder-only ones may hold ``decoder_causal_attention``.
"""

from __future__ import annotations

import abc
from collections.abc import Callable, Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from clu import metrics as clu_metrics
from jaxtyping import Array, Float, Int

from t5x import decoding, losses
from t5x.metrics import AveragePerStep, MetricMap, TimeRate
from t5x.optimizers import OptimizerDef

Batch = Mapping[str, Array]
Params = Any
DecodeFn = Callable[..., tuple[Array, Array]]


class _SeqioConverter:
    """A class of SeqIO, found when it is asked for: importing SeqIO imports TensorFlow, which takes seconds."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __get__(self, instance: Any, owner: Any = None) -> Any:
        import seqio

        return getattr(seqio, self._name)


class BaseModel(abc.ABC):
    """What the trainer and the entry points need of a model."""

    FEATURE_CONVERTER_CLS: Any

    def __init__(self, optimizer_def: OptimizerDef | None) -> None:
        self.optimizer_def = optimizer_def

    @abc.abstractmethod
    def loss_fn(self, params: Params, batch: Batch, dropout_rng: Array | None, *args: Any, **kwargs: Any) -> Any:
        """Returns the loss and its metrics; see :meth:`BaseTransformerModel.loss_fn`."""

    def eval_fn(self, params: Params, batch: Batch, flax_mutables: Any = None) -> Any:
        """Returns what :meth:`loss_fn` returns, without dropout."""
        if flax_mutables:
            return self.loss_fn(params, batch, None, flax_mutables)
        return self.loss_fn(params, batch, None)

    def predict_batch(self, params: Params, batch: Batch, rng: Array | None = None) -> Int[Array, "batch length"]:
        """Returns the decoded ids; see :meth:`predict_batch_with_aux`."""
        return self.predict_batch_with_aux(params, batch, rng=rng)[0]

    @abc.abstractmethod
    def predict_batch_with_aux(
        self, params: Params, batch: Batch, rng: Array | None = None, **kwargs: Any
    ) -> tuple[Array, dict[str, Array]]:
        """Returns decoded ids and ``{"scores": …}``."""

    @abc.abstractmethod
    def score_batch(self, params: Params, batch: Batch, return_intermediates: bool = False) -> Any:
        """Returns the log-likelihood of every example's targets."""

    @abc.abstractmethod
    def get_initial_variables(
        self, rng: Array, input_shapes: Mapping[str, Any], input_types: Mapping[str, Any] | None = None
    ) -> Mapping[str, Any]:
        """Returns ``module.init`` for batches of ``input_shapes``: ``params``, ``params_axes`` and the model's own."""


class BaseTransformerModel(BaseModel):
    """Loss, metrics and scores that all transformers share.

    Args:
      module: the network.
      input_vocabulary: of the inputs.
      output_vocabulary: of the targets; its ``eos_id`` ends decoding.
      optimizer_def: the optimizer of its parameters.
      decode_fn: :func:`t5x.decoding.beam_search`, :func:`t5x.decoding.temperature_sample` or the like.
      label_smoothing: see :func:`t5x.losses.weighted_cross_entropy`.
      z_loss: see there.
      loss_normalizing_factor: what the summed loss is divided by: None, a number or a name of
        :class:`t5x.losses.SpecialLossNormalizingFactor`.
    """

    def __init__(
        self,
        module: nn.Module,
        input_vocabulary: Any,
        output_vocabulary: Any,
        optimizer_def: OptimizerDef | None,
        decode_fn: DecodeFn,
        label_smoothing: float = 0.0,
        z_loss: float = 0.0,
        loss_normalizing_factor: losses.LossNormalizer = None,
    ) -> None:
        super().__init__(optimizer_def)
        self.module = module
        self._input_vocabulary = input_vocabulary
        self._output_vocabulary = output_vocabulary
        self._decode_fn = decode_fn
        self._label_smoothing = label_smoothing
        self._z_loss = z_loss
        self._loss_normalizing_factor = losses.parse_loss_normalizer(loss_normalizing_factor)

    @property
    def input_vocabulary(self) -> Any:
        return self._input_vocabulary

    @property
    def output_vocabulary(self) -> Any:
        return self._output_vocabulary

    @property
    def decode_fn(self) -> DecodeFn:
        return self._decode_fn

    @property
    def eos_id(self) -> int:
        """Id that ends a target; 1 where the vocabulary has none."""
        return self.output_vocabulary.eos_id or 1

    @abc.abstractmethod
    def _compute_logits(
        self,
        params: Params,
        batch: Batch,
        dropout_rng: Array | None = None,
        mutable: Any = False,
        other_variables: Mapping[str, Any] | None = None,
    ) -> Any:
        """Returns logits (batch, length, vocabulary); with ``mutable`` also the variables that changed."""

    def batch_loss_normalizer(self, batch: Batch) -> Array | float | None:
        """Returns what the summed loss of ``batch`` is divided by, if that depends on the batch; else None."""
        if isinstance(self._loss_normalizing_factor, losses.SpecialLossNormalizingFactor):
            return losses.loss_normalizer(self._loss_normalizing_factor, batch)
        return None

    def loss_fn(  # type: ignore[override]
        self,
        params: Params,
        batch: Batch,
        dropout_rng: Array | None,
        flax_mutables: Mapping[str, Any] | None = None,
        *,
        loss_normalizer: Array | float | None = None,
    ) -> Any:
        """Returns the loss to differentiate and the metrics of the batch.

        Args:
          params: parameters.
          batch: see the module.
          dropout_rng: key of dropout; None turns dropout off.
          flax_mutables: the network's other collections, if it has any.
          loss_normalizer: divisor of the loss instead of the batch's own, for a slice of a larger batch.

        Returns:
          ``(loss, metrics)``, or ``(loss, (metrics, flax_mutables))`` where ``flax_mutables`` was given.
        """
        mutable = list(flax_mutables) if flax_mutables and dropout_rng is not None else False
        logits = self._compute_logits(params, batch, dropout_rng, mutable=mutable, other_variables=flax_mutables)
        new_mutables = flax_mutables
        if mutable:
            logits, new_mutables = logits
        if loss_normalizer is None:
            loss_normalizer = losses.loss_normalizer(self._loss_normalizing_factor, batch)
        weights = losses.target_weights(self._loss_normalizing_factor, batch)
        loss, z_loss = losses.weighted_cross_entropy(
            logits, batch["decoder_target_tokens"], weights, self._label_smoothing, self._z_loss, loss_normalizer
        )
        metrics = self._compute_metrics(logits, batch, loss, z_loss)
        return loss, (metrics, new_mutables) if flax_mutables else metrics

    def _compute_metrics(self, logits: Array, batch: Batch, loss: Array, z_loss: Array) -> MetricMap:
        targets, weights = batch["decoder_target_tokens"], batch.get("decoder_loss_weights")
        target_tokens = jnp.float32(targets.size)
        mask = jnp.ones(targets.shape, bool) if weights is None else weights > 0
        real_tokens = jnp.sum(mask).astype(jnp.float32)
        correct = jnp.sum((jnp.argmax(logits, axis=-1) == targets) & mask).astype(jnp.float32)
        cross_entropy = loss - z_loss
        metrics: MetricMap = {
            "accuracy": clu_metrics.Average(total=correct, count=real_tokens),
            "loss": AveragePerStep(loss),
            "loss_per_nonpadding_target_token": clu_metrics.Average(total=loss, count=real_tokens),
            "loss_per_all_target_tokens": clu_metrics.Average(total=loss, count=target_tokens),
            "z_loss": AveragePerStep(z_loss),
            "z_loss_per_all_target_tokens": clu_metrics.Average(total=z_loss, count=target_tokens),
            "cross_ent_loss": AveragePerStep(cross_entropy),
            "cross_ent_loss_per_all_target_tokens": clu_metrics.Average(total=cross_entropy, count=target_tokens),
            "timing/target_tokens_per_second": TimeRate(target_tokens),
            "timing/target_tokens_per_second_per_core": TimeRate(target_tokens / jax.device_count()),
            "non_padding_fraction/loss_weights": clu_metrics.Average(total=real_tokens, count=target_tokens),
        }
        real_total, total = jnp.float32(0), jnp.float32(0)
        for side in ("encoder", "decoder"):
            tokens = batch.get("encoder_input_tokens" if side == "encoder" else "decoder_target_tokens")
            if tokens is None:
                continue
            segment_ids = batch.get(f"{side}_segment_ids")
            real = jnp.sum((tokens if segment_ids is None else segment_ids) != 0).astype(jnp.float32)
            # Segments of a packed row are numbered from 1, so that its largest id is how many it holds.
            rows = jnp.float32(tokens.shape[0]) if segment_ids is None else jnp.sum(jnp.max(segment_ids, axis=-1))
            metrics[f"effective_batch_size/{side}"] = AveragePerStep(rows.astype(jnp.float32))
            size = jnp.float32(tokens.size)
            metrics[f"non_padding_fraction/{side}"] = clu_metrics.Average(total=real, count=size)
            real_total, total = real_total + real, total + size
        metrics["non_padding_fraction/overall"] = clu_metrics.Average(total=real_total, count=total)
        return metrics

    def score_batch(  # type: ignore[override]
        self, params: Params, batch: Batch, return_intermediates: bool = False
    ) -> Any:
        """Returns Σ log p(target)·weight of every example, without smoothing or z-loss.

        Returns:
          scores (batch,); with ``return_intermediates`` also ``{"intermediates": …}``: what the network sowed, and
          under ``decoder`` the scores, ids and weights of every token.
        """
        targets = batch["decoder_target_tokens"]
        weights = batch.get("decoder_loss_weights")
        intermediates: dict[str, Any] = {}
        if return_intermediates:
            logits, changed = self._compute_logits(params, batch, mutable=["intermediates"])
            intermediates = dict(changed.get("intermediates", {}))
        else:
            logits = self._compute_logits(params, batch)
        cross_entropy, _ = losses.token_cross_entropy(logits, targets)
        weights = jnp.ones(targets.shape, cross_entropy.dtype) if weights is None else weights
        token_scores = -cross_entropy * weights
        scores = jnp.sum(token_scores, axis=-1)
        if not return_intermediates:
            return scores
        tokens = {"loss_weights": (weights,), "target_tokens": (targets,), "token_scores": (token_scores,)}
        intermediates["decoder"] = {**intermediates.get("decoder", {}), **tokens}
        return scores, {"intermediates": intermediates}

    def _rngs(self, dropout_rng: Array | None) -> dict[str, Array]:
        return {} if dropout_rng is None else {"dropout": dropout_rng}

    def _decode(
        self,
        prompts: Int[Array, "batch length"],
        cache: Any,
        tokens_to_logits: Callable[[decoding.DecodingState], tuple[Array, Any]],
        num_decodes: int,
        decoder_params: dict[str, Any],
    ) -> tuple[Int[Array, "batch decodes length"], Float[Array, "batch decodes"]]:
        offset = 1 if getattr(self.module, "scan_layers", False) else 0
        options = {"eos_id": self.eos_id, "cache_offset": offset, "num_decodes": num_decodes, **decoder_params}
        return self._decode_fn(inputs=prompts, cache=cache, tokens_to_logits=tokens_to_logits, **options)


def _initial_tokens(
    input_shapes: Mapping[str, Any], input_types: Mapping[str, Any] | None, name: str, like: str | None = None
) -> Array | None:
    """Ones of the shape and type that feature ``name`` has, None where batches lack it and nothing is ``like`` it."""
    name = name if name in input_shapes or like is None else like
    if name not in input_shapes:
        return None
    return jnp.ones(input_shapes[name], (input_types or {}).get(name, jnp.int32))


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

    FEATURE_CONVERTER_CLS = _SeqioConverter("EncDecFeatureConverter")

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
            return _initial_tokens(input_shapes, input_types, name, like)

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
        length = decoder_tokens.shape[1]
        _, variables = self.module.apply(
            {"params": params},
            jnp.ones_like(encoder_tokens),
            jnp.ones_like(decoder_tokens),
            jnp.ones_like(decoder_tokens),
            decode=True,
            enable_dropout=False,
            mutable=["cache"],
        )
        encoded = self.module.apply({"params": params}, encoder_tokens, enable_dropout=False, method=self.module.encode)
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
                max_decode_length=length,
                mutable=["cache"],
                method=self.module.decode,
            )
            return jnp.squeeze(logits, axis=1), changed["cache"]

        if prompt_with_targets:
            # The end token of a prompt would end the decode before it begins.
            prompts = jnp.where(decoder_tokens == self.eos_id, 0, decoder_tokens)
        else:
            prompts = jnp.zeros_like(decoder_tokens)
        decodes, scores = self._decode(prompts, variables["cache"], tokens_to_logits, num_decodes, options)
        if return_all_decodes:
            return decodes, {"scores": scores}
        return decodes[:, -1, :], {"scores": scores[:, -1]}


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

    FEATURE_CONVERTER_CLS = _SeqioConverter("DecoderFeatureConverter")

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
        tokens = _initial_tokens(input_shapes, input_types, "decoder_input_tokens")
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
        decodes = _drop_prefix(decodes, prefix_lengths)
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
            prompts,
            decoder_causal_attention=prefix if self._inputs_bidirectional_attention else None,
            enable_dropout=False,
            decode=False,
            prefill=True,
            prefill_lengths=prefix_lengths,
            mutable=["cache"],
        )
        return filled["cache"]


def _drop_prefix(
    decodes: Int[Array, "batch decodes length"], prefix_lengths: Int[Array, batch]
) -> Int[Array, "batch decodes length"]:
    """Shifts every row left by its prefix; zeros follow."""
    length = decodes.shape[-1]
    source = jnp.arange(length)[None, :] + prefix_lengths[:, None]
    moved = jnp.take_along_axis(decodes, jnp.minimum(source, length - 1)[:, None, :], axis=-1)
    return jnp.where(source[:, None, :] < length, moved, 0)
