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
from jaxtyping import Array, Float, Int

from fsa_base.errors import VocabularyError
from t5x import decoding, losses
from t5x.metrics import AveragePerStep, MetricMap, TimeRate, ratio
from t5x.optimizers import OptimizerDef

Batch = Mapping[str, Any]
"""Arrays by feature: NumPy's or JAX's."""

Params = Any
DecodeFn = Callable[..., tuple[Array, Array]]


class SeqioConverter:
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
        self._require_rows(logits)
        if loss_normalizer is None:
            loss_normalizer = losses.loss_normalizer(self._loss_normalizing_factor, batch)
        weights = losses.target_weights(self._loss_normalizing_factor, batch)
        loss, z_loss = losses.weighted_cross_entropy(
            logits, batch["decoder_target_tokens"], weights, self._label_smoothing, self._z_loss, loss_normalizer
        )
        divisor = 1.0 if loss_normalizer is None else loss_normalizer
        metrics = self._compute_metrics(logits, batch, loss, z_loss, divisor)
        return loss, (metrics, new_mutables) if flax_mutables else metrics

    def _require_rows(self, logits: Array) -> None:
        """Ids beyond the network's rows would be taken for others, or count for nothing, in silence.

        Raises:
          VocabularyError: the vocabulary has more ids than the network.
        """
        # Models that are built for their loss alone may have no vocabulary.
        rows, ids = logits.shape[-1], getattr(self.output_vocabulary, "vocab_size", 0)
        if rows < ids:
            raise VocabularyError(
                "the model",
                expected=f"logits for the {ids} ids of its vocabulary",
                found=f"{rows}",
                fix="bind the network's vocabulary size (T5Config.vocab_size) to that or more, a multiple of 128",
            )

    def _compute_metrics(
        self, logits: Array, batch: Batch, loss: Array, z_loss: Array, divisor: Array | float
    ) -> MetricMap:
        """Metrics of a batch; what is named per token is in nats per token, whatever the loss was divided by.

        T5X divides those by its loss normaliser a second time, which leaves a number that nobody can read.
        """
        targets, weights = batch["decoder_target_tokens"], batch.get("decoder_loss_weights")
        target_tokens = jnp.float32(targets.size)
        mask = jnp.ones(targets.shape, bool) if weights is None else weights > 0
        real_tokens = jnp.sum(mask).astype(jnp.float32)
        correct = jnp.sum((jnp.argmax(logits, axis=-1) == targets) & mask).astype(jnp.float32)
        cross_entropy = loss - z_loss
        summed, summed_z = loss * divisor, z_loss * divisor
        metrics: MetricMap = {
            "accuracy": ratio(correct, real_tokens),
            "loss": AveragePerStep(loss),
            "loss_per_nonpadding_target_token": ratio(summed, real_tokens),
            "loss_per_all_target_tokens": ratio(summed, target_tokens),
            "z_loss": AveragePerStep(z_loss),
            "z_loss_per_all_target_tokens": ratio(summed_z, target_tokens),
            "cross_ent_loss": AveragePerStep(cross_entropy),
            "cross_ent_loss_per_all_target_tokens": ratio(summed - summed_z, target_tokens),
            "timing/target_tokens_per_second": TimeRate(target_tokens),
            "timing/target_tokens_per_second_per_core": TimeRate(target_tokens / jax.device_count()),
            "non_padding_fraction/loss_weights": ratio(real_tokens, target_tokens),
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
            metrics[f"non_padding_fraction/{side}"] = ratio(real, size)
            real_total, total = real_total + real, total + size
        metrics["non_padding_fraction/overall"] = ratio(real_total, total)
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
        token_losses: tuple[Array, Array] = losses.token_cross_entropy(logits, targets)
        cross_entropy = token_losses[0]
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


def initial_tokens(
    input_shapes: Mapping[str, Any], input_types: Mapping[str, Any] | None, name: str, like: str | None = None
) -> Array | None:
    """Ones of the shape and type that feature ``name`` has, None where batches lack it and nothing is ``like`` it."""
    name = name if name in input_shapes or like is None else like
    if name not in input_shapes:
        return None
    return jnp.ones(input_shapes[name], (input_types or {}).get(name, jnp.int32))
