"""Optimizers and schedules of the released recipe, as Optax transformations for both engines.

The gin bindings are the same for both engines::

    OPTIMIZER = @optimizers.OptaxWrapper()
    optimizers.OptaxWrapper.optax_optimizer = @optim.rms_scaled_adamw()
    optim.rms_scaled_adamw.learning_rate = @optim.cosine()
    trainer.Trainer.learning_rate_fn = @optim.cosine()      # only for the metrics

All states use Optax's own classes, because engines partition and store an optimizer's state by its class.
"""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
import optax

from fsa_base.errors import SettingError

LearningRate = float | optax.Schedule


def cosine(total_steps: int, peak: float = 3e-3, final: float = 1e-5, first_step: int = 0) -> optax.Schedule:
    """Half a cosine wave from ``peak`` to ``final``, without warm-up, constant afterwards.

    This is the schedule of distillation (arXiv 2412.18552). Step ``first_step`` has ``peak``; ``final`` is reached
    ``total_steps`` later.

    Example:
      >>> schedule = cosine(total_steps=1000, peak=3e-3, final=1e-5)
      >>> [f"{float(schedule(step)):.6f}" for step in (0, 500, 1000, 2000)]
      ['0.003000', '0.001505', '0.000010', '0.000010']

    Raises:
      SettingError: ``total_steps`` is below 1.
    """
    _check_steps("cosine", total_steps)

    def schedule(step: jax.typing.ArrayLike) -> jax.Array:
        share = _share(step, first_step, total_steps)
        return final + (peak - final) * 0.5 * (1.0 + jnp.cos(jnp.pi * share))

    return schedule


def linear(total_steps: int, peak: float = 3e-4, final: float = 0.0, first_step: int = 0) -> optax.Schedule:
    """A straight line from ``peak`` to ``final``, constant afterwards: the schedule of fine-tuning (arXiv 2412.18552).

    Raises:
      SettingError: ``total_steps`` is below 1.
    """
    _check_steps("linear", total_steps)

    def schedule(step: jax.typing.ArrayLike) -> jax.Array:
        return peak + (final - peak) * _share(step, first_step, total_steps)

    return schedule


def _check_steps(name: str, total_steps: int) -> None:
    if total_steps < 1:
        raise SettingError(
            f"{name}.total_steps", expected="1 or more", found=repr(total_steps), fix="bind it to TRAIN_STEPS"
        )


def _share(step: jax.typing.ArrayLike, first_step: int, total_steps: int) -> jax.Array:
    return jnp.clip((jnp.asarray(step, jnp.float32) - first_step) / total_steps, 0.0, 1.0)


def rms_scaled_adamw(
    learning_rate: LearningRate,
    b1: float = 0.9,
    b2: float = 0.999,
    eps: float = 1e-6,
    weight_decay: float = 0.0,
    min_rms: float = 1e-3,
    clip_norm: float | None = 1.0,
) -> optax.GradientTransformation:
    """AdamW whose step is multiplied by the parameter's root mean square, as in nanoT5.

    With ``m`` and ``v`` the moving averages of the gradient and its square, and ``t`` the step from 1::

        rate  = learning_rate(t - 1) * sqrt(1 - b2^t) / (1 - b1^t)
        p    <- p - rate * max(min_rms, RMS(p)) * m / (sqrt(v) + eps)
        p    <- p - learning_rate(t - 1) * weight_decay * p

    As in the released recipe, ``eps`` is added before the bias correction, and weight decay is applied after the step
    and is not scaled by RMS(p). RMS(p) is computed over a whole array; with scanned layers, over all layers together.

    Args:
      learning_rate: a constant or a function of the 0-based step.
      b1: decay of the first moment.
      b2: decay of the second moment.
      eps: number that is added to the square root.
      weight_decay: decoupled weight decay.
      min_rms: lower limit of the factor RMS(p), so that parameters of zero can grow.
      clip_norm: largest global norm of gradients; larger gradients are scaled down. None for no clipping.
    """
    adam = _scale_by_uncorrected_adam(b1, b2, eps)
    return optax.chain(
        *_clip(clip_norm), adam, _scale_by_rms_of_parameter(min_rms), _descend(learning_rate, weight_decay)
    )


def adamw(
    learning_rate: LearningRate,
    b1: float = 0.9,
    b2: float = 0.999,
    eps: float = 1e-6,
    weight_decay: float = 0.01,
    clip_norm: float | None = 1.0,
) -> optax.GradientTransformation:
    """AdamW of the fine-tuning recipe (arXiv 2412.18552): as in PyTorch, after clipping by global norm."""
    return optax.chain(*_clip(clip_norm), optax.adamw(learning_rate, b1=b1, b2=b2, eps=eps, weight_decay=weight_decay))


def _clip(norm: float | None) -> list[optax.GradientTransformation]:
    return [] if norm is None else [optax.clip_by_global_norm(norm)]


def _scale_by_uncorrected_adam(b1: float, b2: float, eps: float) -> optax.GradientTransformation:
    """Adam's direction with ``eps`` added to the square root before the bias correction; Optax adds it afterwards."""
    start = optax.scale_by_adam(b1, b2, eps).init

    def update(updates, state, params=None):
        del params
        count = optax.safe_increment(state.count)
        mu = optax.tree.update_moment(updates, state.mu, b1, 1)
        nu = optax.tree.update_moment(updates, state.nu, b2, 2)
        # expm1, because 1 - 0.999 in float32 is wrong in the fifth digit.
        remaining = [-jnp.expm1(count * math.log(decay)) for decay in (b1, b2)]
        correction = jnp.sqrt(remaining[1]) / remaining[0]
        updates = jax.tree.map(lambda m, v: correction * m / (jnp.sqrt(v) + eps), mu, nu)
        return updates, optax.ScaleByAdamState(count=count, mu=mu, nu=nu)

    return optax.GradientTransformation(start, update)


def _scale_by_rms_of_parameter(min_rms: float) -> optax.GradientTransformation:
    def update(updates, state, params=None):
        scaled = jax.tree.map(lambda u, p: u * jnp.maximum(min_rms, jnp.sqrt(jnp.mean(jnp.square(p)))), updates, params)
        return scaled, state

    return optax.GradientTransformation(lambda params: optax.EmptyState(), update)


def _descend(learning_rate: LearningRate, weight_decay: float) -> optax.GradientTransformation:
    """Takes the step and then applies weight decay to the result: ``(1 - rate * decay) * (p - rate * u)``."""
    schedule = learning_rate if callable(learning_rate) else optax.constant_schedule(learning_rate)

    def update(updates, state, params=None):
        rate = schedule(state.count)
        decay = rate * weight_decay
        updates = jax.tree.map(lambda u, p: -((1.0 - decay) * rate * u + decay * p), updates, params)
        return updates, optax.ScaleByScheduleState(count=optax.safe_increment(state.count))

    return optax.GradientTransformation(lambda params: optax.ScaleByScheduleState(jnp.zeros((), jnp.int32)), update)
