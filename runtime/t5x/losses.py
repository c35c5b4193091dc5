"""Cross entropy with label smoothing and z-loss, and what it is divided by."""

from __future__ import annotations

import enum
import functools
from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from fsa_base.errors import require_choice


class SpecialLossNormalizingFactor(enum.Enum):
    """Loss normalisers that depend on the batch.

    ``NUM_REAL_TARGET_TOKENS``: number of targets with weight. ``NUM_TOTAL_TARGET_TOKENS``: of all, padding included.
    ``AVERAGE_PER_SEQUENCE``: every sequence (packed ones each) counts the same, whatever its length.
    """

    NUM_REAL_TARGET_TOKENS = 1
    NUM_TOTAL_TARGET_TOKENS = 2
    AVERAGE_PER_SEQUENCE = 3


LossNormalizer = float | int | str | SpecialLossNormalizingFactor | None


def parse_loss_normalizer(value: LossNormalizer) -> float | SpecialLossNormalizingFactor | None:
    """Returns the normaliser that gin's ``LOSS_NORMALIZING_FACTOR`` names: a number, a special one or None (the sum).

    Raises:
      SettingError: an unknown name.
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
    """Total weight of the sequence that each token belongs to; rows are sequences unless they are packed."""
    if segment_ids is None:
        return jnp.broadcast_to(jnp.sum(weights, axis=-1, keepdims=True), weights.shape)
    # One row's segments number at most its length; summing by id per row keeps memory at batch × length.
    length = weights.shape[-1]
    total = jax.vmap(functools.partial(jax.ops.segment_sum, num_segments=length + 1))(weights, segment_ids)
    return jnp.take_along_axis(total, segment_ids, axis=-1)


def target_weights(
    normalizer: float | SpecialLossNormalizingFactor | None, batch: Mapping[str, Array]
) -> Float[Array, "batch length"] | None:
    """Returns the loss weight of every target, None for all equal.

    The batch's ``decoder_loss_weights``; under ``AVERAGE_PER_SEQUENCE`` each sequence's are scaled to sum to 1.
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
    """Returns the number that the summed loss of ``batch`` is divided by, None for the sum itself."""
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
    weights: Float[Array, "*batch length"] | None = None,
    label_smoothing: float = 0.0,
    z_loss: float = 0.0,
    normalizer: Array | float | None = None,
) -> tuple[Float[Array, ""], Float[Array, ""]]:
    """Returns the loss, z-loss included, and the z-loss: Σ(CE - smoothing constant + z_loss·log²Z)·weight / normalizer.

    Args:
      logits: unnormalised scores, in nats.
      targets: token ids; one outside the vocabulary has no target logit.
      weights: per target; all 1 if None.
      label_smoothing: probability spread evenly over the wrong tokens. The entropy of the smoothed target is
        subtracted, so that a perfect prediction has loss 0.
      z_loss: coefficient of log²Z, which keeps logits from drifting.
      normalizer: divisor; None for the sum.
    """
    token_losses: tuple[Array, Array] = token_cross_entropy(logits, targets, label_smoothing, z_loss)
    z = token_losses[1]
    loss = token_losses[0] - _smoothed_entropy(label_smoothing, logits.shape[-1])
    if weights is not None:
        loss, z = loss * weights, z * weights
    total, total_z = jnp.sum(loss), jnp.sum(z)
    return (total, total_z) if normalizer is None else (total / normalizer, total_z / normalizer)


def _smoothed_entropy(label_smoothing: float, vocab_size: int) -> float:
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
) -> tuple[Float[Array, "*batch"], Float[Array, "*batch"]]:
    """Returns each token's cross entropy plus z-loss, and its z-loss alone (which carries no gradient of its own).

    The gradient is written out because the automatic one keeps several more arrays of (batch, length, vocabulary),
    the largest there are, until the backward pass.
    """
    return _forward(logits, targets, label_smoothing, z_loss)[0]


def _forward(logits: Array, targets: Array, label_smoothing: float, z_loss: float):
    largest = jnp.max(logits, axis=-1, keepdims=True)
    shifted = logits - largest
    sum_exp = jnp.sum(jnp.exp(shifted), axis=-1, keepdims=True)
    log_softmax = shifted - jnp.log(sum_exp)
    # Comparing with an iota instead of gathering splits well where the vocabulary is split over devices.
    is_target = _is_target(targets, logits.shape[-1])
    wrong = label_smoothing / (logits.shape[-1] - 1)
    loss = -jnp.sum(jnp.where(is_target, 1.0 - label_smoothing, wrong) * log_softmax, axis=-1)
    log_z = jnp.squeeze(jnp.log(sum_exp) + largest, axis=-1)
    z = z_loss * jnp.square(log_z)
    return (loss + z, z), (logits, targets, largest, sum_exp, log_z)


def _backward(label_smoothing: float, z_loss: float, residuals, cotangents):
    logits, targets, largest, sum_exp, log_z = residuals
    softmax = jnp.exp(logits - largest) / sum_exp
    wrong = label_smoothing / (logits.shape[-1] - 1)
    soft_targets = jnp.where(_is_target(targets, logits.shape[-1]), 1.0 - label_smoothing, wrong)
    gradient = (1.0 + 2.0 * z_loss * log_z)[..., None] * softmax - soft_targets
    return (cotangents[0][..., None] * gradient).astype(logits.dtype), None


token_cross_entropy.defvjp(_forward, _backward)


def _is_target(targets: Array, vocab_size: int) -> Array:
    ids = jax.lax.broadcasted_iota(targets.dtype, (*targets.shape, vocab_size), targets.ndim)
    return targets[..., None] == ids
