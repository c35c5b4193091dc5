"""Compares the optimizer and schedules of the released recipe with an independent reference in NumPy."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from fsa_base.errors import SettingError
from fsa_jax.training import optim

STEPS = 12


class Reference:
    """The recipe in float64, one parameter dictionary, one gradient at a time."""

    def __init__(self, params, rate, weight_decay):
        self.params = {k: v.astype(np.float64) for k, v in params.items()}
        self.m = {k: np.zeros_like(v) for k, v in self.params.items()}
        self.v = {k: np.zeros_like(v) for k, v in self.params.items()}
        self.rate, self.weight_decay, self.t = rate, weight_decay, 0

    def step(self, grads):
        norm = np.sqrt(sum(np.sum(np.square(g, dtype=np.float64)) for g in grads.values()))
        self.t += 1
        lr = self.rate(self.t - 1)
        for name, grad in grads.items():
            grad = grad.astype(np.float64) * min(1.0, 1.0 / norm)
            self.m[name] = 0.9 * self.m[name] + 0.1 * grad
            self.v[name] = 0.999 * self.v[name] + 0.001 * grad**2
            p = self.params[name]
            size = lr * np.sqrt(1 - 0.999**self.t) / (1 - 0.9**self.t) * max(1e-3, np.sqrt(np.mean(p**2)))
            p = p - size * self.m[name] / (np.sqrt(self.v[name]) + 1e-6)
            self.params[name] = p - lr * self.weight_decay * p


def example(seed=0):
    rng = np.random.default_rng(seed)
    shapes = {"kernel": (7, 5), "scale": (5,), "zeros": (4, 3), "large": (3, 2)}
    params = {k: rng.normal(size=s).astype(np.float32) for k, s in shapes.items()}
    params["zeros"][:] = 0.0
    params["large"] *= 40.0
    # Gradients below and above the clipping norm, and tiny ones, for which the place of eps matters.
    sizes = [1e-3, 3.0, 0.1, 1e-5, 1e-6, 1e-6] * 2
    grads = [{k: (size * rng.normal(size=s)).astype(np.float32) for k, s in shapes.items()} for size in sizes]
    return params, grads


def run(transformation, params, grads):
    params = jax.tree.map(jnp.asarray, params)
    state = transformation.init(params)

    @jax.jit
    def step(params, state, grad):
        updates, state = transformation.update(grad, state, params)
        return optax.apply_updates(params, updates), state

    for grad in grads:
        params, state = step(params, state, grad)
        yield jax.tree.map(np.asarray, params), state


@pytest.mark.parametrize("weight_decay", [0.0, 0.3])
def test_equals_the_recipe(weight_decay):
    params, grads = example()
    reference = Reference(params, lambda t: 1e-5 + (3e-3 - 1e-5) / 2 * (1 + np.cos(np.pi * t / 10)), weight_decay)
    for grad, (found, _) in zip(
        grads[:10],
        run(optim.rms_scaled_adamw(optim.cosine(10), weight_decay=weight_decay), params, grads[:10]),
        strict=True,
    ):
        reference.step(grad)
        for name, value in found.items():
            np.testing.assert_allclose(value, reference.params[name], rtol=2e-5, atol=1e-9, err_msg=name)


def test_parameters_of_zero_grow():
    params, grads = example()
    *_, (found, _) = run(optim.rms_scaled_adamw(1e-2), params, grads[:1])
    # The first Adam step is the sign of the gradient, times the minimum RMS of 1e-3, times the learning rate.
    np.testing.assert_allclose(np.abs(found["zeros"]).max(), 1e-2 * 1e-3, rtol=0.05)


def test_gradients_are_not_scaled_without_clipping():
    params, grads = example()
    clipped, whole = (
        list(run(optim.rms_scaled_adamw(1e-3, clip_norm=clip), params, grads[:3]))[-1][0] for clip in (1.0, None)
    )
    assert np.abs(clipped["kernel"] - whole["kernel"]).max() > 1e-5


def test_adamw_equals_its_definition():
    params, grads = example()
    m = v = np.zeros_like(params["kernel"], dtype=np.float64)
    expected = params["kernel"].astype(np.float64)
    schedule = optim.linear(STEPS, peak=1e-2)
    for t, grad in enumerate(grads, start=1):
        norm = np.sqrt(sum(np.sum(np.square(g, dtype=np.float64)) for g in grad.values()))
        g = grad["kernel"].astype(np.float64) * min(1.0, 1.0 / norm)
        m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g**2
        lr = 1e-2 * (1 - (t - 1) / STEPS)
        direction = (m / (1 - 0.9**t)) / (np.sqrt(v / (1 - 0.999**t)) + 1e-6)
        expected = expected - lr * (direction + 0.01 * expected)
    *_, (found, _) = run(optim.adamw(schedule), params, grads)
    np.testing.assert_allclose(found["kernel"], expected, rtol=2e-5)


@pytest.mark.parametrize(
    ("schedule", "step", "value"),
    [
        (optim.cosine(200_000), 0, 3e-3),
        (optim.cosine(200_000), 100_000, (3e-3 + 1e-5) / 2),
        (optim.cosine(200_000), 200_000, 1e-5),
        (optim.cosine(200_000), 300_000, 1e-5),
        (optim.cosine(100, first_step=1000), 0, 3e-3),
        (optim.cosine(100, first_step=1000), 1050, (3e-3 + 1e-5) / 2),
        (optim.linear(1000), 0, 3e-4),
        (optim.linear(1000), 250, 2.25e-4),
        (optim.linear(1000), 1000, 0.0),
        (optim.linear(1000), 1500, 0.0),
    ],
)
def test_schedules(schedule, step, value):
    assert float(schedule(step)) == pytest.approx(value, rel=1e-5, abs=1e-12)
    assert float(jax.jit(schedule)(jnp.int32(step))) == pytest.approx(value, rel=1e-5, abs=1e-12)


@pytest.mark.parametrize("schedule", [optim.cosine, optim.linear])
def test_schedules_without_steps_are_an_error(schedule):
    with pytest.raises(SettingError, match="total_steps"):
        schedule(0)


def test_states_are_optax_classes():
    """The engine partitions and stores states by their class, and does not know other classes."""
    params, _ = example()
    for transformation in (optim.rms_scaled_adamw(1e-3), optim.adamw(1e-3)):
        states = jax.tree.leaves(
            transformation.init(params), is_leaf=lambda x: isinstance(x, tuple) and hasattr(x, "_fields")
        )
        assert all(type(state).__module__.startswith("optax") for state in states)
