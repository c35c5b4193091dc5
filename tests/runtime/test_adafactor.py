"""Adafactor against its algorithm in plain numpy, and its factoring rules."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec

from fsa_base.errors import SettingError
from t5x import adafactor
from t5x.adafactor import HEURISTIC_RULE, Adafactor, FactorDim, HParamMap, standard_logical_factor_rules


def run(optimizer, params, gradients):
    state = optimizer.init_state(params)
    for grads in gradients:
        params, state = optimizer.apply_gradient(optimizer.hyper_params, params, state, grads)
    return params, state


def reference(param, gradients, learning_rate, factored):
    """Algorithms 4 and 6 of arXiv 1804.04235, in float64; the larger dimension of a matrix is the columns."""
    param, rows, columns, full = param.astype(np.float64), 0.0, 0.0, 0.0
    for step, grad in enumerate(gradients):
        decay = 1 - (step + 1) ** -0.8
        squared = grad.astype(np.float64) ** 2 + 1e-30
        if factored:
            rows = decay * rows + (1 - decay) * squared.mean(1)
            columns = decay * columns + (1 - decay) * squared.mean(0)
            second_moment = np.outer(rows, columns) / rows.mean()
        else:
            full = second_moment = decay * full + (1 - decay) * squared
        update = grad / np.sqrt(second_moment)
        update /= max(1.0, np.sqrt((update**2).mean()))
        param = param - learning_rate * max(1e-3, np.sqrt((param**2).mean())) * update
    return param


@pytest.mark.parametrize(("shape", "factored"), [((128, 130), True), ((127, 130), False), ((7,), False)])
def test_updates_follow_the_paper(shape, factored):
    random = np.random.RandomState(0)
    param = random.randn(*shape).astype(np.float32) * 0.1
    gradients = [random.randn(*shape).astype(np.float32) for _ in range(4)]
    new, state = run(
        Adafactor(learning_rate=0.05), {"p": jnp.asarray(param)}, [{"p": jnp.asarray(g)} for g in gradients]
    )
    np.testing.assert_allclose(new["p"], reference(param, gradients, 0.05, factored), rtol=2e-5, atol=1e-7)
    slots = state.param_states["p"]
    assert int(state.step) == 4
    assert slots.m.shape == (1,)
    if factored:
        assert (slots.v_row.shape, slots.v_col.shape, slots.v.shape) == (shape[:1], shape[1:], (1,))
    else:
        assert (slots.v_row.shape, slots.v_col.shape, slots.v.shape) == ((1,), (1,), shape)


def test_the_largest_axis_is_averaged_into_v_row():
    state = Adafactor(learning_rate=1.0).init_state({"p": jnp.zeros((2048, 768))})
    assert state.param_states["p"].v_row.shape == (768,)
    assert state.param_states["p"].v_col.shape == (2048,)


def test_stacked_layers_are_updated_independently():
    random = np.random.RandomState(0)
    param = jnp.asarray(random.randn(3, 130, 140) * np.array([0.01, 1, 10])[:, None, None], jnp.float32)
    grads = [jnp.asarray(random.randn(3, 130, 140), jnp.float32) for _ in range(3)]
    optimizer = Adafactor(learning_rate=0.1, logical_factor_rules=standard_logical_factor_rules())
    optimizer.set_param_axes({"p": PartitionSpec("layers", "embed", "mlp")})
    stacked, state = run(optimizer, {"p": param}, [{"p": grad} for grad in grads])
    alone, _ = run(
        Adafactor(learning_rate=0.1),
        {str(layer): param[layer] for layer in range(3)},
        [{str(layer): grad[layer] for layer in range(3)} for grad in grads],
    )
    np.testing.assert_allclose(stacked["p"], jnp.stack([alone[str(layer)] for layer in range(3)]), rtol=1e-4, atol=1e-6)
    assert state.param_states["p"].v_row.shape == (3, 130)


def test_heads_and_head_dim_are_factored_together():
    optimizer = Adafactor(learning_rate=1.0, logical_factor_rules=standard_logical_factor_rules())
    optimizer.set_param_axes({"q": PartitionSpec("embed", "heads", "kv")})
    slots = optimizer.init_state({"q": jnp.zeros((6, 2, 4))}).param_states["q"]
    assert (slots.v_row.shape, slots.v_col.shape) == ((6,), (2, 4))


def test_a_parameter_of_three_dimensions_needs_a_rule():
    with pytest.raises(SettingError, match=r"parameter p: .*3 dimensions \(2, 3, 4\)"):
        Adafactor(learning_rate=1.0).init_state({"p": jnp.zeros((2, 3, 4))})
    optimizer = Adafactor(learning_rate=1.0, logical_factor_rules=standard_logical_factor_rules())
    with pytest.raises(SettingError, match="experts"):
        optimizer.set_param_axes({"p": PartitionSpec("experts", "embed")})


def test_factor_map_overrides_sizes():
    rules = [("bias", None), ("square", HEURISTIC_RULE), (".*", (FactorDim.COLUMN, FactorDim.ROW))]
    optimizer = Adafactor(learning_rate=1.0, factor_map=rules, min_dim_size_to_factor=4)
    slots = optimizer.init_state(
        {"k": jnp.zeros((3, 5)), "bias": jnp.zeros(9), "square": jnp.zeros((8, 4))}
    ).param_states
    assert (slots["k"].v_row.shape, slots["k"].v_col.shape) == ((5,), (3,))
    assert (slots["square"].v_row.shape, slots["square"].v_col.shape) == ((4,), (8,))
    assert slots["bias"].v.shape == (9,)
    with pytest.raises(SettingError, match="a pattern that matches other"):
        HParamMap([("bias", 1)])["other"]


def test_momentum_averages_updates():
    params, grads = {"p": jnp.ones(5)}, [{"p": jnp.full(5, 2.0)}] * 2
    new, state = run(Adafactor(learning_rate=0.1, beta1=0.9, multiply_by_parameter_scale=False), params, grads)
    # Both updates are 0.1: momentum 0.01, then 0.019.
    np.testing.assert_allclose(new["p"], 1 - 0.01 - 0.019, rtol=1e-5)
    np.testing.assert_allclose(state.param_states["p"].m, 0.019, rtol=1e-5)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"weight_decay_rate": 0.1}, 2 - 0.1 * 2 - 0.1 * 2),
        ({"weight_decay_rate": 0.1, "weight_decay_rate_lr_exponent": 2.0}, 2 - 0.1 * 2 - 0.001 * 2),
        ({"max_parameter_scale": 0.5}, 2 - 0.1 * 0.5),
        ({"clipping_threshold": 0.25}, 2 - 0.1 * 2 * 0.25),
        ({"multiply_by_parameter_scale": False}, 2 - 0.1),
        ({"multiply_by_parameter_scale": [("p", False)]}, 2 - 0.1),
    ],
)
def test_options_have_the_documented_effect(options, expected):
    new, _ = run(Adafactor(learning_rate=0.1, **options), {"p": jnp.full(4, 2.0)}, [{"p": jnp.ones(4)}])
    np.testing.assert_allclose(new["p"], expected, rtol=1e-6)


def test_gradients_are_clipped_by_their_global_norm():
    grads = {"a": jnp.array([3.0]), "b": jnp.array([4.0])}
    optimizer = Adafactor(learning_rate=0.1, global_norm_clip_threshold=1.0)
    _, state = run(optimizer, jax.tree.map(jnp.ones_like, grads), [grads])
    np.testing.assert_allclose(state.param_states["a"].v, 0.6**2, rtol=1e-5)
    np.testing.assert_allclose(state.param_states["b"].v, 0.8**2, rtol=1e-5)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_nan_gradient_does_not_change_parameter_and_moments(bad):
    params = {"p": jnp.ones(3), "q": jnp.ones(3)}
    good = {"p": jnp.ones(3), "q": jnp.ones(3)}
    spoilt = {"p": jnp.array([1.0, bad, 1.0]), "q": jnp.ones(3)}
    optimizer = Adafactor(learning_rate=0.1, skip_nan_updates=True)
    once, once_state = run(optimizer, params, [good])
    then, then_state = run(optimizer, params, [good, spoilt])
    np.testing.assert_array_equal(then["p"], once["p"])
    np.testing.assert_array_equal(then_state.param_states["p"].v, once_state.param_states["p"].v)
    assert (then["q"] < once["q"]).all() and int(then_state.step) == 2


def test_learning_rate_comes_from_the_trainer():
    with pytest.raises(SettingError, match="learning_rate"):
        run(Adafactor(), {"p": jnp.ones(3)}, [{"p": jnp.ones(3)}])
    optimizer = Adafactor().create({"p": jnp.ones(3)}).apply_gradient({"p": jnp.ones(3)}, learning_rate=0.5)
    np.testing.assert_allclose(optimizer.target["p"], 0.5, rtol=1e-6)


def test_factors_have_the_axes_over_which_they_are_not_averaged():
    params = {"wide": jnp.zeros((128, 256)), "scale": jnp.zeros(128)}
    axes = {"wide": PartitionSpec("embed", "mlp"), "scale": PartitionSpec("embed")}
    optimizer = Adafactor(learning_rate=1.0, beta1=0.9)
    slots = optimizer.derive_logical_axes(optimizer.create(params), axes).state.param_states
    assert slots["wide"] == adafactor.AdafactorParamState(
        m=PartitionSpec("embed", "mlp"), v=PartitionSpec(), v_row=PartitionSpec("embed"), v_col=PartitionSpec("mlp")
    )
    assert slots["scale"].v == PartitionSpec("embed")
