"""The loss of a transformer: cross entropy with label smoothing and z-loss, its normaliser, and its metrics."""

from __future__ import annotations

import enum
import functools
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from clu import metrics as clu_metrics
from jaxtyping import Array, Bool, Float, Int, Num

from fsa_base.errors import require_choice
from t5x.metrics import AveragePerStep, MetricMap, TimeRate


class SpecialLossNormalizingFactor(enum.Enum):
    """Loss normalisers that depend on the batch.

    ``NUM_REAL_TARGET_TOKENS``: sum of the target weights. ``NUM_TOTAL_TARGET_TOKENS``: number of targets, padding
    included. ``AVERAGE_PER_SEQUENCE``: all sequences, also packed ones, have equal weight, whatever their length.
    """

    NUM_REAL_TARGET_TOKENS = 1
    NUM_TOTAL_TARGET_TOKENS = 2
    AVERAGE_PER_SEQUENCE = 3


LossNormalizer = float | int | str | SpecialLossNormalizingFactor | None


def parse_loss_normalizer(value: LossNormalizer) -> float | SpecialLossNormalizingFactor | None:
    """Returns the normaliser for gin's ``LOSS_NORMALIZING_FACTOR``: a number, a special one, or None for the sum.

    Raises:
      SettingError: The name is unknown.
    """
    if value is None or isinstance(value, SpecialLossNormalizingFactor):
        return value
    if isinstance(value, str):
        require_choice("LOSS_NORMALIZING_FACTOR", value.upper(), SpecialLossNormalizingFactor.__members__)
        return SpecialLossNormalizingFactor[value.upper()]
    return float(value)


def _weight_per_sequence(
    weights: Float[Array, "batch length"], segment_ids: Int[Array, "batch length"] | None
) -> Float[Array, "batch length"]:
    """Returns for every token the total weight of its sequence. A row is one sequence unless it is packed."""
    if segment_ids is None:
        return jnp.broadcast_to(jnp.sum(weights, axis=-1, keepdims=True), weights.shape)
    # A row has at most as many segments as tokens, so sums per row and id need only batch × length memory.
    length = weights.shape[-1]
    total = jax.vmap(functools.partial(jax.ops.segment_sum, num_segments=length + 1))(weights, segment_ids)
    return jnp.take_along_axis(total, segment_ids, axis=-1)


def target_weights(
    normalizer: float | SpecialLossNormalizingFactor | None, batch: Mapping[str, Array]
) -> Num[Array, "batch length"] | None:
    """Returns the loss weight of every target; None if all are equal.

    These are ``decoder_loss_weights``; for ``AVERAGE_PER_SEQUENCE`` they are scaled to a sum of 1 in each sequence.
    """
    weights = batch.get("decoder_loss_weights")
    if normalizer is not SpecialLossNormalizingFactor.AVERAGE_PER_SEQUENCE:
        return weights
    if weights is None:
        weights = jnp.ones(batch["decoder_target_tokens"].shape, jnp.float32)
    weights = weights.astype(jnp.float32)
    per_sequence = _weight_per_sequence(weights, batch.get("decoder_segment_ids"))
    return jnp.where(per_sequence > 0, weights / jnp.where(per_sequence > 0, per_sequence, 1), 0.0)


def loss_normalizer(
    normalizer: float | SpecialLossNormalizingFactor | None, batch: Mapping[str, Array]
) -> Array | float | None:
    """Returns the divisor of the summed loss of ``batch``; None if it is not divided."""
    if not isinstance(normalizer, SpecialLossNormalizingFactor):
        return normalizer
    targets = batch["decoder_target_tokens"]
    if normalizer is SpecialLossNormalizingFactor.NUM_TOTAL_TARGET_TOKENS:
        return float(np.prod(targets.shape))
    weights = target_weights(normalizer, batch)
    return jnp.asarray(targets.size if weights is None else jnp.sum(weights), jnp.float32)


def weighted_cross_entropy(
    logits: Float[Array, "*batch length vocab"],
    targets: Int[Array, "*batch length"],
    weights: Num[Array, "*batch length"] | None = None,
    label_smoothing: float = 0.0,
    z_loss: float = 0.0,
    normalizer: Array | float | None = None,
) -> tuple[Float[Array, ""], Float[Array, ""], Bool[Array, "*batch length"]]:
    """Returns the loss Σ(CE - smoothing constant + z_loss·log²Z)·weight / normalizer, and the part that is z-loss.

    The third result says for every token whether its target has the largest logit; of equal ones the first counts.

    Args:
      logits: Unnormalised log-probabilities, in nats. The loss is computed in float32 from any type.
      targets: Token ids. An id outside the vocabulary has no target logit.
      weights: Weight of every target. If None, 1.
      label_smoothing: Probability that is distributed evenly over the wrong tokens. The entropy of the smoothed target
        is subtracted, so that a perfect prediction has loss 0.
      z_loss: Coefficient of log²Z, which keeps the logits from growing.
      normalizer: Divisor of the sum. If None, 1.
    """
    token_losses: tuple[Array, Array, Array] = token_cross_entropy(logits, targets, label_smoothing, z_loss)
    loss, z, correct = token_losses
    loss = loss - smoothed_entropy(label_smoothing, logits.shape[-1])
    if weights is not None:
        loss, z = loss * weights, z * weights
    total, total_z = jnp.sum(loss), jnp.sum(z)
    return (total, total_z, correct) if normalizer is None else (total / normalizer, total_z / normalizer, correct)


def smoothed_entropy(label_smoothing: float, vocab_size: int) -> float:
    """Returns the entropy of a target that is smoothed over a vocabulary, in nats."""
    if not label_smoothing:
        return 0.0
    wrong = label_smoothing / (vocab_size - 1)
    right = 1.0 - label_smoothing
    return -(right * np.log(right) + (vocab_size - 1) * wrong * np.log(wrong + 1e-20))


@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def token_cross_entropy(
    logits: Float[Array, "*batch vocab"],
    targets: Int[Array, "*batch"],
    label_smoothing: float = 0.0,
    z_loss: float = 0.0,
) -> tuple[Float[Array, "*batch"], Float[Array, "*batch"], Bool[Array, "*batch"]]:
    """Returns for every token its cross entropy plus z-loss, its z-loss, and whether its target has the largest logit.

    Of equal logits the first is the largest, as in an argmax, which would be another pass over all logits. Only the
    first result has a gradient. It is written by hand: the automatic one would keep several more arrays (batch, length,
    vocabulary), which are the largest ones, until the backward pass. The logits are kept in their own type.
    """
    return _forward(logits, targets, label_smoothing, z_loss)[0]


def _forward(logits: Array, targets: Array, label_smoothing: float, z_loss: float):
    largest = jnp.max(logits, axis=-1, keepdims=True).astype(jnp.float32)
    shifted = logits.astype(jnp.float32) - largest
    sum_exp = jnp.sum(jnp.exp(shifted), axis=-1, keepdims=True)
    log_softmax = shifted - jnp.log(sum_exp)
    # Comparing with an iota is partitioned better than gathering if the vocabulary is split over devices.
    ids = _ids(targets, logits.shape[-1])
    is_target = targets[..., None] == ids
    wrong = label_smoothing / (logits.shape[-1] - 1)
    loss = -jnp.sum(jnp.where(is_target, 1.0 - label_smoothing, wrong) * log_softmax, axis=-1)
    log_z = jnp.squeeze(jnp.log(sum_exp) + largest, axis=-1)
    z = z_loss * jnp.square(log_z)
    first = jnp.min(jnp.where(shifted == 0, ids, logits.shape[-1]), axis=-1)
    return (loss + z, z, first == targets), (logits, targets, largest, sum_exp, log_z)


def _backward(label_smoothing: float, z_loss: float, residuals, cotangents):
    logits, targets, largest, sum_exp, log_z = residuals
    softmax = jnp.exp(logits.astype(jnp.float32) - largest) / sum_exp
    wrong = label_smoothing / (logits.shape[-1] - 1)
    soft_targets = jnp.where(targets[..., None] == _ids(targets, logits.shape[-1]), 1.0 - label_smoothing, wrong)
    gradient = (1.0 + 2.0 * z_loss * log_z)[..., None] * softmax - soft_targets
    return (cotangents[0][..., None] * gradient).astype(logits.dtype), None


token_cross_entropy.defvjp(_forward, _backward)


def _ids(targets: Array, vocab_size: int) -> Array:
    return jax.lax.broadcasted_iota(targets.dtype, (*targets.shape, vocab_size), targets.ndim)


def log_likelihood(
    logits: Float[Array, "batch length vocab"],
    targets: Int[Array, "batch length"],
    weights: Num[Array, "batch length"] | None,
) -> tuple[Float[Array, " batch"], dict[str, tuple[Array]]]:
    """Returns Σ log p(target)·weight of every example, and the weight, id and score of every token (by name)."""
    token_losses: tuple[Array, Array, Array] = token_cross_entropy(logits, targets)
    cross_entropy = token_losses[0]
    weights = jnp.ones(targets.shape, cross_entropy.dtype) if weights is None else weights
    token_scores = -cross_entropy * weights
    tokens = {"loss_weights": (weights,), "target_tokens": (targets,), "token_scores": (token_scores,)}
    return jnp.sum(token_scores, axis=-1), tokens


class TransformerLoss:
    """The loss of a batch of logits, and the metrics that go with it.

    Args:
      label_smoothing: See :func:`weighted_cross_entropy`.
      z_loss: See :func:`weighted_cross_entropy`.
      normalizing_factor: Divisor of the summed loss.
      cross_entropy: A function like :func:`weighted_cross_entropy`. What it takes for logits, so does :meth:`of_batch`.
    """

    def __init__(
        self,
        label_smoothing: float,
        z_loss: float,
        normalizing_factor: LossNormalizer,
        cross_entropy: Callable[..., tuple[Array, Array, Array]] = weighted_cross_entropy,
    ) -> None:
        self._cross_entropy = cross_entropy
        self._label_smoothing = label_smoothing
        self._z_loss = z_loss
        self._factor = parse_loss_normalizer(normalizing_factor)

    def batch_normalizer(self, batch: Mapping[str, Array]) -> Array | float | None:
        """Returns the divisor of the summed loss of ``batch`` if it depends on the batch; otherwise None."""
        return loss_normalizer(self._factor, batch) if isinstance(self._factor, SpecialLossNormalizingFactor) else None

    def of_batch(
        self, logits: Any, batch: Mapping[str, Array], normalizer: Array | float | None
    ) -> tuple[Float[Array, ""], MetricMap]:
        """Returns loss and metrics of ``batch``. If ``normalizer`` is None, the divisor is that of the batch."""
        if normalizer is None:
            normalizer = loss_normalizer(self._factor, batch)
        weights = target_weights(self._factor, batch)
        targets = batch["decoder_target_tokens"]
        loss, z_loss, correct = self._cross_entropy(
            logits, targets, weights, self._label_smoothing, self._z_loss, normalizer
        )
        return loss, _metrics(correct, batch, loss, z_loss, 1.0 if normalizer is None else normalizer)


def _metrics(
    correct: Bool[Array, "batch length"],
    batch: Mapping[str, Array],
    loss: Float[Array, ""],
    z_loss: Float[Array, ""],
    divisor: Array | float,
) -> MetricMap:
    """Returns the metrics of a batch. Metrics per token are in nats per token, independent of the loss normaliser.

    T5X divides these by the loss normaliser a second time, so its values have no clear meaning.
    """
    targets, weights = batch["decoder_target_tokens"], batch.get("decoder_loss_weights")
    target_tokens = jnp.float32(targets.size)
    mask = jnp.ones(targets.shape, bool) if weights is None else weights > 0
    real_tokens = jnp.sum(mask).astype(jnp.float32)
    real_correct = jnp.sum(correct & mask).astype(jnp.float32)
    cross_entropy = loss - z_loss
    summed, summed_z = loss * divisor, z_loss * divisor
    metrics: MetricMap = {
        "accuracy": _ratio(real_correct, real_tokens),
        "loss": AveragePerStep(loss),
        "loss_per_nonpadding_target_token": _ratio(summed, real_tokens),
        "loss_per_all_target_tokens": _ratio(summed, target_tokens),
        "z_loss": AveragePerStep(z_loss),
        "z_loss_per_all_target_tokens": _ratio(summed_z, target_tokens),
        "cross_ent_loss": AveragePerStep(cross_entropy),
        "cross_ent_loss_per_all_target_tokens": _ratio(summed - summed_z, target_tokens),
        "timing/target_tokens_per_second": TimeRate(target_tokens),
        "timing/target_tokens_per_second_per_core": TimeRate(target_tokens / jax.device_count()),
        "non_padding_fraction/loss_weights": _ratio(real_tokens, target_tokens),
    }
    real_total, total = jnp.float32(0), jnp.float32(0)
    for side in ("encoder", "decoder"):
        tokens = batch.get("encoder_input_tokens" if side == "encoder" else "decoder_target_tokens")
        if tokens is None:
            continue
        segment_ids = batch.get(f"{side}_segment_ids")
        real = jnp.sum((tokens if segment_ids is None else segment_ids) != 0).astype(jnp.float32)
        # Segments of a packed row are numbered from 1, so the largest id is their number.
        rows = jnp.float32(tokens.shape[0]) if segment_ids is None else jnp.sum(jnp.max(segment_ids, axis=-1))
        metrics[f"effective_batch_size/{side}"] = AveragePerStep(rows.astype(jnp.float32))
        size = jnp.float32(tokens.size)
        metrics[f"non_padding_fraction/{side}"] = _ratio(real, size)
        real_total, total = real_total + real, total + size
    metrics["non_padding_fraction/overall"] = _ratio(real_total, total)
    return metrics


def _ratio(total: Array, count: Array) -> clu_metrics.Average:
    """Sum of ``total`` over steps divided by that of ``count``."""
    return clu_metrics.Average(total=total, count=count)  # type: ignore[call-arg]
