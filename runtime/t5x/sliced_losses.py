"""The loss of a transformer from its last layer's output, without holding the logits of all tokens at the same time."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Num

from fsa_base.networks.layers import Unprojected
from t5x.losses import smoothed_entropy, token_cross_entropy


def sliced_cross_entropy(
    unprojected: Unprojected,
    targets: Int[Array, "batch length"],
    weights: Num[Array, "batch length"] | None = None,
    label_smoothing: float = 0.0,
    z_loss: float = 0.0,
    normalizer: Array | float | None = None,
    *,
    slices: int,
) -> tuple[Float[Array, ""], Float[Array, ""], Bool[Array, "batch length"]]:
    """Returns the same as :func:`t5x.losses.weighted_cross_entropy`, from what the logits are computed from.

    Rows are cut into ``slices`` pieces of equal length. The logits of one piece exist at a time, for all rows, so that
    rows may be on several devices. As in Liger Kernel (arXiv 2410.10989), the gradients of states and matrix are
    computed together with the loss, so no logits are computed twice; they are multiplied by that of the loss later.
    Gradients of the matrix are summed over the pieces in float32.
    """
    scale = jnp.ones(targets.shape, jnp.float32) if weights is None else weights.astype(jnp.float32)
    if normalizer is not None:
        scale = scale / normalizer
    sums: tuple[Array, Array, Array] = _sums(*unprojected, targets, scale, label_smoothing, z_loss, slices)
    loss, z, correct = sums
    return loss - smoothed_entropy(label_smoothing, unprojected.shape[-1]) * jnp.sum(scale), z, correct


@functools.partial(jax.custom_vjp, nondiff_argnums=(4, 5, 6))
def _sums(
    states: Array, matrix: Array, targets: Array, scale: Array, label_smoothing: float, z_loss: float, slices: int
) -> tuple[Array, Array, Array]:
    """Returns Σ loss·scale, Σ z-loss·scale, and what is correct; only the first has a gradient."""

    def piece(cut: tuple[Array, Array]) -> tuple[Array, Array, Array]:
        return _token_losses(cut[0], matrix, cut[1], label_smoothing, z_loss)

    loss, z, correct = jax.lax.map(piece, (_cut(states, slices), _cut(targets, slices)))
    return _total(loss, z, correct, scale)


def _forward(
    states: Array, matrix: Array, targets: Array, scale: Array, label_smoothing: float, z_loss: float, slices: int
):
    def piece(summed: Array, cut: tuple[Array, Array, Array]):
        cut_states, cut_targets, cut_scale = cut

        def losses(cut_states: Array, matrix: Array):
            loss, *others = _token_losses(cut_states, matrix, cut_targets, label_smoothing, z_loss)
            return loss, others

        loss, gradients, (z, correct) = jax.vjp(losses, cut_states, matrix, has_aux=True)
        of_states, of_matrix = gradients(cut_scale)
        return summed + of_matrix.astype(jnp.float32), (loss, z, correct, of_states)

    cuts = _cut(states, slices), _cut(targets, slices), _cut(scale, slices)
    of_matrix, (loss, z, correct, of_states) = jax.lax.scan(piece, jnp.zeros(matrix.shape, jnp.float32), cuts)
    of_states = _joined(of_states, targets.shape[1])
    return _total(loss, z, correct, scale), (of_states, of_matrix.astype(matrix.dtype))


def _backward(label_smoothing: float, z_loss: float, slices: int, residuals, cotangents):
    of_states, of_matrix = residuals
    factor = cotangents[0]
    return of_states * factor.astype(of_states.dtype), of_matrix * factor.astype(of_matrix.dtype), None, None


_sums.defvjp(_forward, _backward)


def _token_losses(states: Array, matrix: Array, targets: Array, label_smoothing: float, z_loss: float):
    losses: tuple[Array, Array, Array] = token_cross_entropy(
        jnp.dot(states, matrix.T), targets, label_smoothing, z_loss
    )
    return losses


def _total(loss: Array, z: Array, correct: Array, scale: Array) -> tuple[Array, Array, Array]:
    loss, z, correct = (_joined(x, scale.shape[1]) for x in (loss, z, correct))
    return jnp.sum(loss * scale), jnp.sum(z * scale), correct


def _cut(x: Num[Array, "batch length *rest"], slices: int) -> Num[Array, "slices batch piece *rest"]:
    """Cuts rows into pieces, with zeros after the end."""
    missing = -x.shape[1] % slices
    x = jnp.pad(x, [(0, missing if axis == 1 else 0) for axis in range(x.ndim)])
    return jnp.moveaxis(x.reshape(x.shape[0], slices, -1, *x.shape[2:]), 1, 0)


def _joined(x: Array, length: int) -> Array:
    x = jnp.moveaxis(x, 0, 1)
    return x.reshape(x.shape[0], -1, *x.shape[3:])[:, :length]
