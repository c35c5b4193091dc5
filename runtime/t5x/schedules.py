"""Learning-rate schedules: a product of named factors, as in T5X (``utils.create_learning_rate_scheduler``)."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp

from fsa_base.errors import require_choice

LearningRateFn = Callable[[jax.Array | int], jax.Array]
_Factor = Callable[[jax.Array], jax.Array | float]


def create_learning_rate_scheduler(
    factors: str = "constant * linear_warmup * rsqrt_decay",
    base_learning_rate: float = 0.5,
    warmup_steps: int = 1000,
    decay_factor: float = 0.5,
    steps_per_decay: int = 20000,
    steps_per_cycle: int = 100000,
    step_offset: int = 0,
    min_learning_rate: float = 1e-8,
) -> LearningRateFn:
    """Returns a function from the 0-based step to the float32 learning rate.

    Args:
      factors: names joined by ``*``:
        ``constant`` (``base_learning_rate``), ``linear_warmup`` (0 to 1 over ``warmup_steps``), ``linear_decay``
        (warm-up to the base rate, then down by ``decay_factor`` of it a step; includes the base rate),
        ``rsqrt_decay`` (1/√max(step, warmup), no ramp), ``rsqrt_normalized_decay`` (the same times √warmup, so that
        it starts at 1), ``decay_every`` (times ``decay_factor`` every ``steps_per_decay``) and ``cosine_decay``
        (1 to 0 over each ``steps_per_cycle`` after the warm-up).
      base_learning_rate: value of ``constant``.
      warmup_steps: length of the warm-up, in steps.
      decay_factor: of ``linear_decay`` and ``decay_every``.
      steps_per_decay: period of ``decay_every``, in steps.
      steps_per_cycle: period of ``cosine_decay``, in steps.
      step_offset: subtracted from the step; before it the schedule stands at step 0.
      min_learning_rate: the rate never falls below this.

    Raises:
      SettingError: an unknown factor.
    """

    def linear_decay(step: jax.Array) -> jax.Array:
        falling = 1.0 + decay_factor * (warmup_steps - step)
        return base_learning_rate * jnp.minimum(step / warmup_steps, falling)

    def cosine_decay(step: jax.Array) -> jax.Array:
        progress = jnp.maximum(0.0, (step - warmup_steps) / float(steps_per_cycle))
        return jnp.maximum(0.0, 0.5 * (1.0 + jnp.cos(jnp.pi * (progress % 1.0))))

    known: dict[str, _Factor] = {
        "constant": lambda step: base_learning_rate,
        "linear_warmup": lambda step: jnp.minimum(1.0, step / warmup_steps),
        "linear_decay": linear_decay,
        "rsqrt_decay": lambda step: 1.0 / jnp.sqrt(jnp.maximum(step, warmup_steps)),
        "rsqrt_normalized_decay": lambda step: jnp.sqrt(warmup_steps) / jnp.sqrt(jnp.maximum(step, warmup_steps)),
        "decay_every": lambda step: decay_factor ** (step // steps_per_decay),
        "cosine_decay": cosine_decay,
    }
    names = [name.strip() for name in factors.split("*")]
    for at, name in enumerate(names):
        others = [(i, other) for i, other in enumerate(names) if i == at or other in known]
        corrected = " * ".join("{choice}" if i == at else other for i, other in others)
        fix = f"--gin.{{setting}}=\"'{corrected}'\""
        require_choice("utils.create_learning_rate_scheduler.factors", name, known, fix)

    def learning_rate(step: jax.Array | int) -> jax.Array:
        since_offset = jnp.maximum(0, jnp.asarray(step) - step_offset)
        rate: jax.Array | float = 1.0
        for name in names:
            rate = rate * known[name](since_offset)
        return jnp.asarray(jnp.maximum(rate, min_learning_rate), jnp.float32)

    return learning_rate
