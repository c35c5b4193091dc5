"""Transformers: loss, scores and predictions of encoder-decoders and of decoder-only models.

A batch is a dict of int32 arrays (batch, length) with SeqIO's names: ``encoder_input_tokens``,
``decoder_input_tokens``, ``decoder_target_tokens`` and ``decoder_loss_weights``; packed batches also have
``{encoder,decoder}_{segment_ids,positions}``, and decoder-only ones may have ``decoder_causal_attention``.
"""

from __future__ import annotations

import abc
import functools
import inspect
from collections.abc import Callable, Mapping
from typing import Any, cast

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array

from fsa_base.errors import SettingError, VocabularyError
from t5x import decoding, losses
from t5x.data.datasets import SeqioConverter
from t5x.models.base import BaseModel, Batch, Params, Vocabulary
from t5x.optimizers import OptimizerDef

DecodeFn = Callable[..., tuple[Array, Array]]
CrossEntropy = Callable[..., tuple[Array, Array, Array]]


class BaseTransformerModel(BaseModel):
    """Loss, metrics and scores, which are the same for all transformers.

    Args:
      module: The network.
      input_vocabulary: Vocabulary of the inputs.
      output_vocabulary: Vocabulary of the targets; its ``eos_id`` ends decoding.
      optimizer_def: Optimizer of the parameters.
      decode_fn: A function like :func:`t5x.decoding.beam_search` or :func:`t5x.decoding.temperature_sample`.
      label_smoothing: See :func:`t5x.losses.weighted_cross_entropy`.
      z_loss: See :func:`t5x.losses.weighted_cross_entropy`.
      loss_normalizing_factor: Divisor of the summed loss: None, a number, or a name in
        :class:`t5x.losses.SpecialLossNormalizingFactor`.
      cross_entropy: A function like :func:`t5x.losses.weighted_cross_entropy` of what :meth:`_loss_inputs` returns.
    """

    def __init__(
        self,
        module: nn.Module,
        input_vocabulary: Vocabulary | None,
        output_vocabulary: Vocabulary | None,
        optimizer_def: OptimizerDef | None,
        decode_fn: DecodeFn,
        label_smoothing: float = 0.0,
        z_loss: float = 0.0,
        loss_normalizing_factor: losses.LossNormalizer = None,
        cross_entropy: CrossEntropy = losses.weighted_cross_entropy,
    ) -> None:
        super().__init__(optimizer_def)
        self.module = module
        # If only the loss is used, they may be None.
        self.input_vocabulary = cast(Vocabulary, input_vocabulary)
        self.output_vocabulary = cast(Vocabulary, output_vocabulary)
        self.decode_fn = decode_fn
        self._loss = losses.TransformerLoss(label_smoothing, z_loss, loss_normalizing_factor, cross_entropy)

    @property
    def eos_id(self) -> int:
        """The id that ends a target; 1 if the vocabulary has none."""
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
        """Returns logits (batch, length, vocabulary); with ``mutable`` also the changed variables."""

    def _loss_inputs(self, *args: Any, **kwargs: Any) -> Any:
        """Returns what the loss is computed from: the result of :meth:`_compute_logits`, with the same arguments."""
        return self._compute_logits(*args, **kwargs)

    def batch_loss_normalizer(self, batch: Batch) -> Array | float | None:
        """Returns the divisor of the summed loss of ``batch`` if it depends on the batch; otherwise None."""
        return self._loss.batch_normalizer(batch)

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
          params: Parameters.
          batch: See the docstring of this module.
          dropout_rng: Random key for dropout. If None, there is no dropout.
          flax_mutables: Other collections of the network, if it has any.
          loss_normalizer: Divisor of the loss, for a slice of a larger batch. If None, that of this batch.

        Returns:
          ``(loss, metrics)``, or ``(loss, (metrics, flax_mutables))`` if ``flax_mutables`` is given.
        """
        mutable = list(flax_mutables) if flax_mutables and dropout_rng is not None else False
        logits = self._loss_inputs(params, batch, dropout_rng, mutable=mutable, other_variables=flax_mutables)
        new_mutables = flax_mutables
        if mutable:
            logits, new_mutables = logits
        self._require_rows(logits)
        loss, metrics = self._loss.of_batch(logits, batch, loss_normalizer)
        return loss, (metrics, new_mutables) if flax_mutables else metrics

    def _require_rows(self, logits: Any) -> None:
        """Checks that there is a logit for every id. Larger ids would silently be ignored or mistaken for others.

        Raises:
          VocabularyError: The vocabulary has more ids than the network.
        """
        rows, ids = logits.shape[-1], getattr(self.output_vocabulary, "vocab_size", 0)
        if rows < ids:
            raise VocabularyError(
                "the model",
                expected=f"logits for the {ids} ids of its vocabulary",
                found=f"{rows}",
                fix="bind the network's vocabulary size (T5Config.vocab_size) to that or more, a multiple of 128",
            )

    def score_batch(  # type: ignore[override]
        self, params: Params, batch: Batch, return_intermediates: bool = False
    ) -> Any:
        """Returns Σ log p(target)·weight of every example, without smoothing or z-loss.

        Returns:
          scores (batch,); with ``return_intermediates`` also ``{"intermediates": …}``: the values that the network
          sowed and, under ``decoder``, the score, id and weight of every token.
        """
        targets = batch["decoder_target_tokens"]
        intermediates: dict[str, Any] = {}
        if return_intermediates:
            logits, changed = self._compute_logits(params, batch, mutable=["intermediates"])
            intermediates = dict(changed.get("intermediates", {}))
        else:
            logits = self._compute_logits(params, batch)
        scores, tokens = losses.log_likelihood(logits, targets, batch.get("decoder_loss_weights"))
        if not return_intermediates:
            return scores
        intermediates["decoder"] = {**intermediates.get("decoder", {}), **tokens}
        return scores, {"intermediates": intermediates}

    def _rngs(self, dropout_rng: Array | None) -> dict[str, Array]:
        return {} if dropout_rng is None else {"dropout": dropout_rng}

    def _predict(
        self,
        predict: Callable[..., tuple[Array, Array]],
        params: Params,
        batch: Batch,
        rng: Array | None,
        options: Mapping[str, Any],
        return_all_decodes: bool | None,
        **arguments: Any,
    ) -> tuple[Array, dict[str, Array]]:
        """Decodes with ``predict``, a function of t5x/decoding/networks.py; returns the best decode, or all."""
        options = {"eos_id": self.eos_id, **options, **({} if rng is None else {"decode_rng": rng})}
        decodes, scores = predict(self.module, params, batch, self.decode_fn, options=options, **arguments)
        if return_all_decodes:
            return decodes, {"scores": scores}
        return decodes[:, -1, :], {"scores": scores[:, -1]}


class EncoderDecoderModel(BaseTransformerModel):
    """An encoder-decoder such as T5; see :class:`BaseTransformerModel` for the other arguments.

    Args:
      module: Its ``__call__``, ``encode`` and ``decode`` are described in docs/engine.md.
      feature_converter_cls: SeqIO feature converter. If None, ``seqio.EncDecFeatureConverter``.
      default_decoder_params: Arguments that every call of ``decode_fn`` gets.
    """

    FEATURE_CONVERTER_CLS = SeqioConverter("EncDecFeatureConverter")

    def __init__(
        self,
        module: nn.Module,
        input_vocabulary: Vocabulary | None,
        output_vocabulary: Vocabulary | None,
        optimizer_def: OptimizerDef | None,
        decode_fn: DecodeFn = decoding.beam_search,
        feature_converter_cls: Any = None,
        label_smoothing: float = 0.0,
        z_loss: float = 0.0,
        loss_normalizing_factor: losses.LossNormalizer = None,
        default_decoder_params: Mapping[str, Any] | None = None,
    ) -> None:
        vocabularies, loss = (input_vocabulary, output_vocabulary), (label_smoothing, z_loss, loss_normalizing_factor)
        super().__init__(module, *vocabularies, optimizer_def, decode_fn, *loss)
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
        """Decodes with a cache. Decoded rows keep their end token, followed by zeros.

        Args:
          params: Parameters.
          batch: Read are ``encoder_input_tokens``, and ``decoder_input_tokens`` for the length and the prompt.
          rng: Random key for sampling.
          decoder_params: Arguments of the decode function; they override the model's defaults.
          return_all_decodes: Return all decodes instead of the best one.
          num_decodes: Beams or samples per example. If None, 1.
          prompt_with_targets: Whether decodes must begin with the tokens in ``decoder_input_tokens``.

        Returns:
          ids (batch, length) and ``{"scores": (batch,)}``; with ``return_all_decodes`` (batch, decodes, length) and
          (batch, decodes), the best last.
        """
        return self._predict(
            decoding.decode_from_encoder,
            params,
            batch,
            rng,
            {**self._default_decoder_params, **(decoder_params or {})},
            return_all_decodes,
            num_decodes=1 if num_decodes is None else num_decodes,
            prompt_with_targets=prompt_with_targets,
        )


class DecoderOnlyModel(BaseTransformerModel):
    """A language model, with or without a prefix; see :class:`BaseTransformerModel` for the other arguments.

    Args:
      module: Its ``__call__`` is described in docs/engine.md.
      vocabulary: Vocabulary of inputs and targets.
      inputs_bidirectional_attention: Whether the tokens of the prefix attend to the whole prefix.
      feature_converter_cls: SeqIO feature converter. If None, ``seqio.DecoderFeatureConverter``.
      loss_slices: Number of pieces of a row whose logits are computed one after the other in training, which saves
        memory where the vocabulary is large; see :func:`t5x.sliced_losses.sliced_cross_entropy`. The network must be
        able to return its last layer's output (argument ``project`` of ``fsa_base.networks.llama``). With 1 there is
        no cutting, and logits are asked for.

    Raises:
      SettingError: ``loss_slices`` is not a positive integer, or the network returns logits only.
    """

    FEATURE_CONVERTER_CLS = SeqioConverter("DecoderFeatureConverter")

    def __init__(
        self,
        module: nn.Module,
        vocabulary: Vocabulary | None,
        optimizer_def: OptimizerDef | None,
        decode_fn: DecodeFn = decoding.temperature_sample,
        inputs_bidirectional_attention: bool = False,
        feature_converter_cls: Any = None,
        label_smoothing: float = 0.0,
        z_loss: float = 0.0,
        loss_normalizing_factor: losses.LossNormalizer = None,
        loss_slices: int = 1,
    ) -> None:
        loss = (label_smoothing, z_loss, loss_normalizing_factor)
        cross_entropy: CrossEntropy = losses.weighted_cross_entropy
        if loss_slices != 1:
            cross_entropy = _sliced_cross_entropy(module, loss_slices)
        super().__init__(module, vocabulary, vocabulary, optimizer_def, decode_fn, *loss, cross_entropy)
        self._loss_slices = loss_slices
        if feature_converter_cls is not None:
            self.FEATURE_CONVERTER_CLS = feature_converter_cls
        self._inputs_bidirectional_attention = inputs_bidirectional_attention

    def get_initial_variables(
        self, rng: Array, input_shapes: Mapping[str, Any], input_types: Mapping[str, Any] | None = None
    ) -> Mapping[str, Any]:
        tokens = initial_tokens(input_shapes, input_types, "decoder_input_tokens")
        return self.module.init(rng, tokens, tokens, enable_dropout=False)

    def _compute_logits(
        self,
        params: Params,
        batch: Batch,
        dropout_rng: Array | None = None,
        mutable: Any = False,
        other_variables: Mapping[str, Any] | None = None,
    ) -> Any:
        return self._apply(params, batch, dropout_rng, mutable, other_variables)

    def _loss_inputs(self, *args: Any, **kwargs: Any) -> Any:
        return self._apply(*args, **kwargs, **({} if self._loss_slices == 1 else {"project": False}))

    def _apply(
        self,
        params: Params,
        batch: Batch,
        dropout_rng: Array | None = None,
        mutable: Any = False,
        other_variables: Mapping[str, Any] | None = None,
        **options: Any,
    ) -> Any:
        bidirectional = self._inputs_bidirectional_attention
        causal_attention = batch.get("decoder_causal_attention") if bidirectional else None
        return self.module.apply(
            {"params": params, **(other_variables or {})},
            batch["decoder_input_tokens"],
            batch["decoder_target_tokens"],
            decoder_segment_ids=batch.get("decoder_segment_ids"),
            decoder_positions=batch.get("decoder_positions"),
            decoder_causal_attention=causal_attention,
            rngs=self._rngs(dropout_rng),
            decode=False,
            enable_dropout=dropout_rng is not None,
            mutable=mutable,
            **options,
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
        """Continues the prefix of every example. The prefix is written to the cache in one pass.

        Args:
          params: Parameters.
          batch: Read are ``decoder_input_tokens`` and ``decoder_causal_attention``, which is 1 for the beginning token
            and the prefix.
          rng: Random key for sampling.
          return_all_decodes: Return all decodes instead of the best one.
          num_decodes: Samples or beams per example.
          decoder_params: Arguments of the decode function.

        Returns:
          The same as :meth:`EncoderDecoderModel.predict_batch_with_aux`, without the prefix.
        """
        return self._predict(
            decoding.continue_prefix,
            params,
            batch,
            rng,
            decoder_params or {},
            return_all_decodes,
            num_decodes=num_decodes,
            inputs_bidirectional_attention=self._inputs_bidirectional_attention,
        )


def _sliced_cross_entropy(module: nn.Module, slices: int) -> CrossEntropy:
    """Returns :func:`t5x.sliced_losses.sliced_cross_entropy` for a number of slices, if the network allows it."""
    from t5x.sliced_losses import sliced_cross_entropy  # only if it is used

    whole = isinstance(slices, int) and slices > 0
    if not whole or "project" not in inspect.signature(type(module).__call__).parameters:
        raise SettingError(
            "DecoderOnlyModel.loss_slices",
            expected="1" if whole else "a positive integer",
            found=f"{slices!r} with {type(module).__name__}, which returns logits only" if whole else repr(slices),
            fix="--gin.models.DecoderOnlyModel.loss_slices=1",
        )
    return functools.partial(sliced_cross_entropy, slices=slices)


def initial_tokens(
    input_shapes: Mapping[str, Any], input_types: Mapping[str, Any] | None, name: str, like: str | None = None
) -> Array | None:
    """Returns ones with the shape and type of feature ``name`` (or else ``like``); None if batches have neither."""
    name = name if name in input_shapes or like is None else like
    if name not in input_shapes:
        return None
    return jnp.ones(input_shapes[name], (input_types or {}).get(name, jnp.int32))
