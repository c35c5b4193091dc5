"""The loss of a transformer: cross entropy with label smoothing and z-loss, its normaliser, and its metrics."""

from __future__ import annotations

import enum
import functools
import math
from collections.abc import Mapping
from typing import NamedTuple, cast

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


class LossSums(NamedTuple):
    """Sums over the targets of a batch, in nats.

    Attributes:
      loss: Σ(CE - smoothing constant + z-loss)·weight. Only this one has a gradient.
      z_loss: Its part that is z-loss.
      correct: Number of targets with a weight above 0 that have the largest logit; of equal ones the first counts.
    """

    loss: Float[Array, ""]
    z_loss: Float[Array, ""]
    correct: Float[Array, ""]


def loss_sums(
    logits: Float[Array, "*batch length vocab"],
    targets: Int[Array, "*batch length"],
    weights: Num[Array, "*batch length"] | None = None,
    label_smoothing: float = 0.0,
    z_loss: float = 0.0,
) -> LossSums:
    """Returns the sums over a batch of logits.

    Args:
      logits: Unnormalised log-probabilities, in nats. The loss is computed in float32 from any type.
      targets: Token ids. An id outside the vocabulary has no target logit.
      weights: Weight of every target. If None, 1.
      label_smoothing: Probability that is distributed evenly over the wrong tokens. The entropy of the smoothed target
        is subtracted, so that a perfect prediction has loss 0.
      z_loss: Coefficient of log²Z, which keeps the logits from growing.
    """
    token_losses: tuple[Array, Array, Array] = token_cross_entropy(logits, targets, label_smoothing, z_loss)
    loss, z, correct = token_losses
    weights = jnp.ones(targets.shape, jnp.float32) if weights is None else weights
    loss = loss - _smoothed_entropy(label_smoothing, logits.shape[-1])
    hits = jnp.sum(correct & (weights > 0)).astype(jnp.float32)
    return LossSums(jnp.sum(loss * weights), jnp.sum(z * weights), hits)


@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def token_cross_entropy(
    logits: Float[Array, "*batch vocab"],
    targets: Int[Array, "*batch"],
    label_smoothing: float = 0.0,
    z_loss: float = 0.0,
) -> tuple[Float[Array, "*batch"], Float[Array, "*batch"], Bool[Array, "*batch"]]:
    """Returns for every token its cross entropy plus z-loss, its z-loss, and whether its target has the largest logit.

    Only the first result has a gradient. It is written by hand: the automatic one would keep several more arrays
    (batch, length, vocabulary), which are the largest ones, until the backward pass. The logits are kept in their own
    type.
    """
    return _forward(logits, targets, label_smoothing, z_loss)[0]


def _forward(logits: Array, targets: Array, label_smoothing: float, z_loss: float):
    largest = jnp.max(logits, axis=-1, keepdims=True).astype(jnp.float32)
    shifted = logits.astype(jnp.float32) - largest
    sum_exp = jnp.sum(jnp.exp(shifted), axis=-1, keepdims=True)
    log_softmax = shifted - jnp.log(sum_exp)
    # Comparing with an iota is partitioned better than gathering if the vocabulary is split over devices.
    is_target = _is_target(targets, logits.shape[-1])
    wrong = label_smoothing / (logits.shape[-1] - 1)
    loss = -jnp.sum(jnp.where(is_target, 1.0 - label_smoothing, wrong) * log_softmax, axis=-1)
    log_z = jnp.squeeze(jnp.log(sum_exp) + largest, axis=-1)
    z = z_loss * jnp.square(log_z)
    # XLA computes the argmax together with the maximum. Comparing logits with the maximum would not be exact where a
    # compiler computes them twice with another rounding.
    correct = jnp.argmax(logits, axis=-1) == targets
    return (loss + z, z, correct), (logits, targets, largest, sum_exp, log_z)


def _backward(label_smoothing: float, z_loss: float, residuals, cotangents):
    logits, targets, largest, sum_exp, log_z = residuals
    softmax = jnp.exp(logits.astype(jnp.float32) - largest) / sum_exp
    wrong = label_smoothing / (logits.shape[-1] - 1)
    soft_targets = jnp.where(_is_target(targets, logits.shape[-1]), 1.0 - label_smoothing, wrong)
    gradient = (1.0 + 2.0 * z_loss * log_z)[..., None] * softmax - soft_targets
    return (cotangents[0][..., None] * gradient).astype(logits.dtype), None


token_cross_entropy.defvjp(_forward, _backward)


def _is_target(targets: Array, vocab_size: int) -> Array:
    ids = jax.lax.broadcasted_iota(targets.dtype, (*targets.shape, vocab_size), targets.ndim)
    return targets[..., None] == ids


def _smoothed_entropy(label_smoothing: float, vocab_size: int) -> float:
    if not label_smoothing:
        return 0.0
    wrong = label_smoothing / (vocab_size - 1)
    right = 1.0 - label_smoothing
    return -(right * np.log(right) + (vocab_size - 1) * wrong * np.log(wrong + 1e-20))


def projected_loss_sums(
    hidden: Float[Array, "batch length embed"],
    matrix: Float[Array, "embed vocab"],
    targets: Int[Array, "batch length"],
    weights: Num[Array, "batch length"] | None,
    label_smoothing: float,
    z_loss: float,
    chunk_bytes: float,
) -> LossSums:
    """Returns the :func:`loss_sums` of the logits ``hidden @ matrix``, of which only a part is in memory at any time.

    The batch is cut along its length. The gradients with respect to ``hidden`` and ``matrix`` are computed together
    with the loss, while the logits of a chunk are there, as in Liger Kernel (arXiv 2410.10989, section 3.2).

    Args:
      hidden: Output of the last layer.
      matrix: Output matrix.
      targets: See :func:`loss_sums`, also for ``weights``, ``label_smoothing`` and ``z_loss``.
      weights: Weight of every target. If None, 1.
      label_smoothing: See above.
      z_loss: See above.
      chunk_bytes: Largest size of the float32 logits of a chunk; it has at least one position of every row.
    """
    rows, length = targets.shape
    chunks = min(length, math.ceil(rows * length * matrix.shape[1] * 4 / chunk_bytes))
    size = math.ceil(length / chunks)
    padding = ((0, 0), (0, math.ceil(length / size) * size - length))
    weights = jnp.ones(targets.shape, jnp.float32) if weights is None else weights.astype(jnp.float32)

    def cut(x: Array) -> Array:
        padded = jnp.pad(x, padding + ((0, 0),) * (x.ndim - 2))
        return jnp.moveaxis(padded.reshape(rows, -1, size, *x.shape[2:]), 1, 0)

    return cast(LossSums, _chunk_sums(cut(hidden), matrix, cut(targets), cut(weights), label_smoothing, z_loss))


@functools.partial(jax.custom_vjp, nondiff_argnums=(4, 5))
def _chunk_sums(
    hidden: Float[Array, "chunks batch size embed"],
    matrix: Float[Array, "embed vocab"],
    targets: Int[Array, "chunks batch size"],
    weights: Float[Array, "chunks batch size"],
    label_smoothing: float,
    z_loss: float,
) -> LossSums:
    def add(sums: LossSums, chunk: tuple[Array, Array, Array]) -> tuple[LossSums, None]:
        logits = jnp.dot(chunk[0], matrix, preferred_element_type=jnp.float32)
        return LossSums(*map(jnp.add, sums, loss_sums(logits, *chunk[1:], label_smoothing, z_loss))), None

    return jax.lax.scan(add, LossSums(*jnp.zeros(3)), (hidden, targets, weights))[0]


def _chunk_sums_forward(
    hidden: Array, matrix: Array, targets: Array, weights: Array, label_smoothing: float, z_loss: float
):
    def add(carry: tuple[LossSums, Array], chunk: tuple[Array, Array, Array]) -> tuple[tuple[LossSums, Array], Array]:
        (sums, matrix_gradient), (x, ids, weight) = carry, chunk
        logits = jnp.dot(x, matrix, preferred_element_type=jnp.float32)
        new, backward = jax.vjp(lambda logits: loss_sums(logits, ids, weight, label_smoothing, z_loss), logits)
        gradient = backward(LossSums(jnp.float32(1), jnp.float32(0), jnp.float32(0)))[0].astype(x.dtype)
        matrix_gradient += jnp.einsum("bse,bsv->ev", x, gradient, preferred_element_type=jnp.float32)
        return (LossSums(*map(jnp.add, sums, new)), matrix_gradient), jnp.dot(gradient, matrix.T)

    start = (LossSums(*jnp.zeros(3)), jnp.zeros(matrix.shape, jnp.float32))
    (sums, matrix_gradient), hidden_gradient = jax.lax.scan(add, start, (hidden, targets, weights))
    return sums, (hidden_gradient, matrix_gradient.astype(matrix.dtype))


def _chunk_sums_backward(label_smoothing: float, z_loss: float, gradients: tuple[Array, Array], cotangents: LossSums):
    del label_smoothing, z_loss
    return (*((cotangents.loss * gradient).astype(gradient.dtype) for gradient in gradients), None, None)


_chunk_sums.defvjp(_chunk_sums_forward, _chunk_sums_backward)


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
      label_smoothing: See :func:`loss_sums`.
      z_loss: See :func:`loss_sums`.
      normalizing_factor: Divisor of the summed loss.
    """

    def __init__(self, label_smoothing: float, z_loss: float, normalizing_factor: LossNormalizer) -> None:
        self._label_smoothing = label_smoothing
        self._z_loss = z_loss
        self._factor = parse_loss_normalizer(normalizing_factor)

    def batch_normalizer(self, batch: Mapping[str, Array]) -> Array | float | None:
        """Returns the divisor of the summed loss of ``batch`` if it depends on the batch; otherwise None."""
        return loss_normalizer(self._factor, batch) if isinstance(self._factor, SpecialLossNormalizingFactor) else None

    def of_logits(self, logits: Float[Array, "batch length vocab"], batch: Mapping[str, Array]) -> LossSums:
        """Returns the sums over ``batch``."""
        weights = target_weights(self._factor, batch)
        return loss_sums(logits, batch["decoder_target_tokens"], weights, self._label_smoothing, self._z_loss)

    def of_hidden(
        self,
        hidden: Float[Array, "batch length embed"],
        matrix: Float[Array, "embed vocab"],
        batch: Mapping[str, Array],
        chunk_bytes: float,
    ) -> LossSums:
        """Returns the sums over ``batch`` without all logits at once; see :func:`projected_loss_sums`."""
        targets, weights = batch["decoder_target_tokens"], target_weights(self._factor, batch)
        return projected_loss_sums(hidden, matrix, targets, weights, self._label_smoothing, self._z_loss, chunk_bytes)

    def normalized(
        self, sums: LossSums, batch: Mapping[str, Array], normalizer: Array | float | None
    ) -> tuple[Float[Array, ""], MetricMap]:
        """Returns loss and metrics of ``batch``. If ``normalizer`` is None, the divisor is that of the batch."""
        if normalizer is None:
            normalizer = loss_normalizer(self._factor, batch)
        divisor = 1.0 if normalizer is None else normalizer
        return sums.loss / divisor, _metrics(sums, batch, divisor)


def _metrics(sums: LossSums, batch: Mapping[str, Array], divisor: Array | float) -> MetricMap:
    """Returns the metrics of a batch. Metrics per token are in nats per token, independent of the loss normaliser.

    T5X divides these by the loss normaliser a second time, so its values have no clear meaning.
    """
    targets, weights = batch["decoder_target_tokens"], batch.get("decoder_loss_weights")
    target_tokens = jnp.float32(targets.size)
    mask = jnp.ones(targets.shape, bool) if weights is None else weights > 0
    real_tokens = jnp.sum(mask).astype(jnp.float32)
    loss, z_loss = sums.loss / divisor, sums.z_loss / divisor
    metrics: MetricMap = {
        "accuracy": _ratio(sums.correct, real_tokens),
        "loss": AveragePerStep(loss),
        "loss_per_nonpadding_target_token": _ratio(sums.loss, real_tokens),
        "loss_per_all_target_tokens": _ratio(sums.loss, target_tokens),
        "z_loss": AveragePerStep(z_loss),
        "z_loss_per_all_target_tokens": _ratio(sums.z_loss, target_tokens),
        "cross_ent_loss": AveragePerStep(loss - z_loss),
        "cross_ent_loss_per_all_target_tokens": _ratio(sums.loss - sums.z_loss, target_tokens),
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
