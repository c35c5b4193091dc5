"""Optax behind the engine's interface: same updates, checkpoints in T5X's layout, moments laid out as parameters."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax.traverse_util import flatten_dict
from jax.sharding import PartitionSpec

from fsa_base.errors import CheckpointError
from t5x import optimizers
from t5x.train_state import FlaxOptimTrainState, InferenceState

PARAMS = {"dense": {"kernel": jnp.arange(6.0).reshape(2, 3) / 5, "bias": jnp.ones(3)}, "scale": jnp.full((2,), 0.5)}
GRADS = jax.tree.map(lambda param: jnp.cos(param) - 0.3, PARAMS)
AXES = {
    "dense": {"kernel": PartitionSpec("embed", "mlp"), "bias": PartitionSpec("mlp")},
    "scale": PartitionSpec("embed"),
}


def chained():
    mask = {"dense": {"kernel": True, "bias": False}, "scale": False}
    return optimizers.chain(
        [optax.clip_by_global_norm(1.0), optax.masked(optax.scale_by_adam(), mask), optax.add_decayed_weights(0.1)]
    )


CONSTRUCTORS = {
    "adamw": lambda: optimizers.adamw(1e-2, weight_decay=0.1),
    "lion": lambda: optimizers.lion(1e-3),
    "lamb": lambda: optimizers.lamb(1e-2),
    "sgd": lambda: optimizers.sgd(1e-2, momentum=0.9),
    "scheduled": lambda: optimizers.adam(optax.linear_schedule(1e-2, 0.0, 10)),
    "chained": chained,
}


def three_steps(optimizer):
    for step in range(3):
        optimizer = optimizer.apply_gradient(
            jax.tree.map(lambda grad, s=step: grad * (s + 1), GRADS), learning_rate=7.0
        )
    return optimizer


@pytest.mark.parametrize("name", CONSTRUCTORS)
def test_updates_are_those_of_optax(name):
    definition = CONSTRUCTORS[name]()
    optimizer = three_steps(definition.create(PARAMS))
    params, state = PARAMS, definition.optax_optimizer.init(PARAMS)
    for step in range(3):
        grads = jax.tree.map(lambda grad, s=step: grad * (s + 1), GRADS)
        updates, state = definition.optax_optimizer.update(grads, state, params)
        params = optax.apply_updates(params, updates)
    jax.tree.map(np.testing.assert_array_equal, optimizer.target, params)
    assert int(optimizer.state.step) == 3


@pytest.mark.parametrize("name", CONSTRUCTORS)
def test_training_continues_from_a_saved_state(name):
    trained = three_steps(CONSTRUCTORS[name]().create(PARAMS))
    state_dict = jax.tree.map(np.asarray, trained.state_dict())
    assert all(isinstance(leaf, np.ndarray) and leaf.size for leaf in flatten_dict(state_dict).values()), (
        "empty nodes are left out"
    )
    restored = CONSTRUCTORS[name]().create(jax.tree.map(jnp.zeros_like, PARAMS)).restore_state(state_dict)
    assert jax.tree.structure(restored.state) == jax.tree.structure(trained.state)
    jax.tree.map(np.testing.assert_array_equal, three_steps(restored).target, three_steps(trained).target)


def test_layout_of_adamw_is_that_of_t5x():
    names = set(flatten_dict(CONSTRUCTORS["adamw"]().create(PARAMS).state_dict(), sep="/"))
    moments = {
        f"state/param_states/0/{moment}/{name}" for moment in ("mu", "nu") for name in flatten_dict(PARAMS, sep="/")
    }
    assert names == moments | {f"target/{name}" for name in flatten_dict(PARAMS, sep="/")} | {
        "state/step",
        "state/param_states/0/count",
    }


@pytest.mark.parametrize("name", ["adamw", "chained"])
def test_moments_have_the_axes_of_their_parameters(name):
    definition = CONSTRUCTORS[name]()
    optimizer = definition.create(PARAMS)
    axes = definition.derive_logical_axes(optimizer, AXES)
    is_spec = lambda leaf: isinstance(leaf, PartitionSpec)  # noqa: E731
    specs = jax.tree.leaves(axes.state, is_leaf=is_spec)
    leaves = jax.tree.leaves(optimizer.state)
    assert len(specs) == len(leaves) and all(map(is_spec, specs))
    assert [PartitionSpec("embed", "mlp")] * 2 == [s for s, leaf in zip(specs, leaves, strict=True) if leaf.ndim == 2]
    assert all(spec == PartitionSpec() for spec, leaf in zip(specs, leaves, strict=True) if leaf.ndim == 0)


def test_missing_entries_of_a_checkpoint_are_named():
    optimizer = CONSTRUCTORS["adamw"]().create(PARAMS)
    stored = optimizer.state_dict()
    del stored["target"]["dense"]["bias"]
    with pytest.raises(CheckpointError, match="target/dense/bias"):
        optimizer.restore_state(stored)
    stored = optimizer.state_dict()
    stored["target"]["scale"] = np.zeros(5, np.float32)
    with pytest.raises(CheckpointError, match=r"target/scale: expected shape \(2,\), found shape \(5,\)"):
        optimizer.restore_state(stored)


def test_a_step_that_was_saved_as_float_is_restored_as_integer():
    state = FlaxOptimTrainState.create(CONSTRUCTORS["adamw"](), {"params": PARAMS})
    stored = state.replace_step(jnp.asarray(12)).state_dict()
    stored["state"]["step"] = np.asarray(12, np.float32)
    restored = state.restore_state(stored)
    assert restored.step.dtype == jnp.int32 and int(restored.step) == 12
    inference = InferenceState.create({"params": PARAMS}).restore_state(stored)
    assert inference.step.dtype == jnp.int32 and inference.state_dict()["target"].keys() == PARAMS.keys()


def test_other_collections_are_saved_with_the_state():
    variables = {"params": PARAMS, "statistics": {"mean": jnp.ones(3)}}
    state = FlaxOptimTrainState.create(CONSTRUCTORS["sgd"](), variables)
    stored = state.state_dict()
    assert set(stored) == {"target", "state", "flax_mutables"}
    stored["flax_mutables"]["statistics"]["mean"] = np.full(3, 2.0)
    np.testing.assert_array_equal(state.restore_state(stored).flax_mutables["statistics"]["mean"], 2.0)
    assert "flax_mutables" not in FlaxOptimTrainState.create(CONSTRUCTORS["sgd"](), {"params": PARAMS}).state_dict()
