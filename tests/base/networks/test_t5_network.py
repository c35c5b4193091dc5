"""The T5 student: its outputs with and without packing, cache and scanned layers."""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jaxtyping import TypeCheckError
from shape_checks import checked

from fsa_base.errors import SettingError
from fsa_base.networks.layers import ACTIVATIONS
from fsa_base.networks.t5.network import T5Config

# The functions of these modules check the shapes in their signatures.
layers, attention, network = checked(
    "fsa_base.networks.layers", "fsa_base.networks.t5.attention", "fsa_base.networks.t5.network"
)
Transformer = network.Transformer

CONFIG = network.T5Config(
    vocab_size=61,
    emb_dim=12,
    num_heads=2,
    num_encoder_layers=2,
    num_decoder_layers=2,
    head_dim=5,
    mlp_dim=16,
    mlp_activations=("gelu", "linear"),
)


def tokens(rows: int, length: int, padding: int = 0, seed: int = 0) -> jax.Array:
    ids = np.random.RandomState(seed).randint(2, CONFIG.vocab_size, (rows, length))
    if padding:
        ids[:, -padding:] = 0
    return jnp.asarray(ids)


def shift_right(ids: jax.Array) -> jax.Array:
    return jnp.pad(ids, [(0, 0), (1, 0)])[:, :-1]


@pytest.fixture(scope="module")
def params() -> Any:
    return init(CONFIG)


@functools.partial(jax.jit, static_argnums=0)
def init(config: T5Config) -> Any:
    ids = tokens(1, 4)
    return Transformer(config).init(jax.random.PRNGKey(0), ids, ids, ids, enable_dropout=False)["params"]


@functools.partial(jax.jit, static_argnums=0)
def logits(config: T5Config, params: Any, inputs: jax.Array, targets: jax.Array) -> jax.Array:
    variables = {"params": params}
    return Transformer(config).apply(variables, inputs, shift_right(targets), targets, enable_dropout=False)


@functools.partial(jax.jit, static_argnums=0)
def encode(config: T5Config, params: Any, inputs: jax.Array) -> jax.Array:
    return Transformer(config).apply({"params": params}, inputs, enable_dropout=False, method="encode")


@functools.partial(jax.jit, static_argnums=(0, 2, 3))
def empty_cache(config: T5Config, params: Any, inputs: tuple[int, int], targets: tuple[int, int]) -> Any:
    """Creates the cache like the engines: with a call on float inputs of ones."""
    ones = jnp.ones(inputs), jnp.ones(targets), jnp.ones(targets)
    _, variables = Transformer(config).apply(
        {"params": params}, *ones, decode=True, enable_dropout=False, mutable=["cache"]
    )
    return variables["cache"]


@functools.partial(jax.jit, static_argnums=0, static_argnames=("decode", "prefill", "max_decode_length"))
def step(config, params, cache, encoded, inputs, ids, prefill_lengths=None, **options):
    found, variables = Transformer(config).apply(
        {"params": params, "cache": cache},
        encoded,
        inputs,
        ids,
        ids,
        enable_dropout=False,
        prefill_lengths=prefill_lengths,
        mutable=["cache"],
        method="decode",
        **options,
    )
    return found, variables["cache"]


def stack_layers(params: Any) -> Any:
    """Converts parameters of a model without scanned layers to those of a model with them."""
    stacked = {}
    for name, subtree in params.items():
        if name in ("encoder", "decoder"):
            subtree = dict(subtree)
            each = [subtree.pop(f"layers_{i}") for i in range(2)]
            subtree["layers"] = jax.tree.map(lambda *leaves: jnp.stack(leaves), *each)
        stacked[name] = subtree
    return stacked


def test_padding_changes_nothing(params):
    inputs, targets = tokens(3, 6), tokens(3, 5, seed=1)
    padded = logits(CONFIG, params, jnp.pad(inputs, [(0, 0), (0, 3)]), jnp.pad(targets, [(0, 0), (0, 2)]))
    np.testing.assert_allclose(padded[:, :5], logits(CONFIG, params, inputs, targets), atol=1e-5)


def test_packed_examples_do_not_attend_to_each_other(params):
    a, b = tokens(1, 6), tokens(1, 4, seed=1)
    ta, tb = tokens(1, 3, seed=2), tokens(1, 5, seed=3)
    packed_inputs, packed_targets = jnp.concatenate([a, b], 1), jnp.concatenate([ta, tb], 1)
    # Packed decoder inputs start with 0 at each example.
    decoder_inputs = jnp.concatenate([shift_right(ta), shift_right(tb)], 1)
    segments = jnp.asarray([[1] * 6 + [2] * 4]), jnp.asarray([[1] * 3 + [2] * 5])
    apply = jax.jit(functools.partial(Transformer(CONFIG).apply, enable_dropout=False))
    packed = apply({"params": params}, packed_inputs, decoder_inputs, packed_targets, *segments)
    alone = jnp.concatenate([logits(CONFIG, params, a, ta), logits(CONFIG, params, b, tb)], 1)
    np.testing.assert_allclose(packed, alone, atol=1e-5)


def test_a_target_does_not_attend_to_later_targets(params):
    inputs, targets = tokens(1, 6), tokens(1, 5, seed=1)
    changed = targets.at[0, 3].set(targets[0, 3] % 50 + 2)
    before, after = logits(CONFIG, params, inputs, targets), logits(CONFIG, params, inputs, changed)
    # Target 3 is the decoder's input at position 4.
    np.testing.assert_array_equal(before[:, :4], after[:, :4])
    assert jnp.abs(before[:, 4] - after[:, 4]).max() > 1e-3


@pytest.mark.parametrize("scan", [False, True])
def test_cached_decoding_equals_one_full_call(params, scan):
    config = dataclasses.replace(CONFIG, scan_layers=scan)
    params = stack_layers(params) if scan else params
    inputs, targets = tokens(2, 6, padding=2), tokens(2, 7, seed=1)
    whole = logits(config, params, inputs, targets)
    cache = empty_cache(config, params, inputs.shape, targets.shape)
    encoded = encode(config, params, inputs)
    for i, ids in enumerate(shift_right(targets).T):
        found, cache = step(config, params, cache, encoded, inputs, ids[:, None], max_decode_length=7, decode=True)
        np.testing.assert_allclose(found[:, 0], whole[:, i], atol=1e-5)


@pytest.mark.parametrize("scan", [False, True])
def test_prefill_of_prompts_of_unequal_lengths(params, scan):
    config = dataclasses.replace(CONFIG, scan_layers=scan)
    params = stack_layers(params) if scan else params
    inputs, targets = tokens(2, 6), tokens(2, 7, seed=1)
    whole, shifted = logits(config, params, inputs, targets), shift_right(targets)
    cache = empty_cache(config, params, inputs.shape, targets.shape)
    encoded = encode(config, params, inputs)
    lengths = jnp.asarray([3, 5])
    found, cache = step(config, params, cache, encoded, inputs, shifted[:, :5], lengths, prefill=True)
    np.testing.assert_allclose(found[1], whole[1, :5], atol=1e-5)
    for i in range(2):
        ids = jnp.take_along_axis(shifted, (lengths + i)[:, None], axis=1)
        found, cache = step(config, params, cache, encoded, inputs, ids, max_decode_length=7, decode=True)
        np.testing.assert_allclose(found[:, 0], whole[jnp.arange(2), lengths + i], atol=1e-5)


def test_a_cache_of_another_length_is_an_error(params):
    inputs = tokens(1, 6)
    cache, encoded = empty_cache(CONFIG, params, (1, 6), (1, 7)), encode(CONFIG, params, inputs)
    with pytest.raises(ValueError, match="max_decode_length must be the cache's length 7, got 5"):
        step(CONFIG, params, cache, encoded, inputs, inputs[:, :1], max_decode_length=5, decode=True)
    with pytest.raises(ValueError, match="takes one token per row, got 2"):
        step(CONFIG, params, cache, encoded, inputs, inputs[:, :2], max_decode_length=7, decode=True)


def test_scan_and_remat_compute_the_same(params):
    inputs, targets = tokens(2, 6, padding=2), tokens(2, 5, seed=1)

    @functools.partial(jax.jit, static_argnums=0)
    def gradients(config, params):
        return jax.grad(lambda p: jnp.sum(jax.nn.softmax(logits(config, p, inputs, targets))[..., 0]))(params)

    expected = gradients(CONFIG, params)
    stacked = stack_layers(params)
    for scan, remat in ((False, True), (True, True)):
        config = dataclasses.replace(CONFIG, scan_layers=scan, remat=remat)
        found = gradients(config, stacked if scan else params)
        jax.tree.map(
            lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6),
            found,
            stack_layers(expected) if scan else expected,
        )


def test_scanned_parameters_have_an_axis_of_layers():
    ids = tokens(1, 4)
    config = dataclasses.replace(CONFIG, scan_layers=True)
    assert Transformer(config).scan_layers and not Transformer(CONFIG).scan_layers
    model = Transformer(config)
    init = functools.partial(model.init, enable_dropout=False)
    variables = jax.jit(init)(jax.random.PRNGKey(0), ids, ids, ids)
    kernel = variables["params"]["decoder"]["layers"]["encoder_decoder_attention"]["query"]["kernel"]
    axes = variables["params_axes"]["decoder"]["layers"]["encoder_decoder_attention"]["query"]["kernel_axes"]
    assert kernel.shape == (2, 12, 10)
    assert axes.names == ("layers", "embed", "joined_kv")
    # Each layer has different initial values.
    assert jnp.abs(kernel[0] - kernel[1]).max() > 0.01


def test_dropout_needs_a_key_and_is_off_without_training(params):
    inputs, targets = tokens(2, 6), tokens(2, 5, seed=1)
    config = dataclasses.replace(CONFIG, dropout_rate=0.5)

    @jax.jit
    def run(key):
        rngs = {"dropout": key}
        return Transformer(config).apply({"params": params}, inputs, shift_right(targets), targets, rngs=rngs)

    keys = [jax.random.PRNGKey(seed) for seed in (0, 1)]
    assert jnp.array_equal(run(keys[0]), run(keys[0]))
    assert jnp.abs(run(keys[0]) - run(keys[1])).max() > 0.1
    np.testing.assert_array_equal(logits(config, params, inputs, targets), logits(CONFIG, params, inputs, targets))


def test_dropout_drops_a_feature_at_every_position():
    class Dropped(layers.nn.Module):
        over_length: bool

        @layers.nn.compact
        def __call__(self, x):
            return layers.dropout(x, 0.5, True, over_length=self.over_length)

    for over_length in (True, False):
        found = Dropped(over_length).apply({}, jnp.ones((3, 8, 16)), rngs={"dropout": jax.random.PRNGKey(0)})
        kept = found > 0
        assert bool((kept == kept[:, :1]).all()) == over_length
        assert set(np.unique(found)) == {0.0, 2.0}


def test_attention_dropout_is_t5x_s_one_mask_for_the_weights_of_all_queries(monkeypatch):
    """The network drops values; T5X drops attention weights. Both are the same, and so are their gradients."""
    mode, rate = layers.Mode(enable_dropout=True), 0.5
    dropped = attention.MultiHeadAttention(num_heads=2, head_dim=5, dropout_rate=rate, mode=mode)
    plain = dropped.clone(dropout_rate=0.0)
    x, context = (jax.random.normal(jax.random.PRNGKey(n), (3, length, 12)) for n, length in ((1, 4), (2, 7)))
    variables = plain.init(jax.random.PRNGKey(0), x, context)
    masks, draw, softmax = [], jax.random.bernoulli, jax.nn.softmax
    monkeypatch.setattr(jax.random, "bernoulli", lambda *args: masks.append(draw(*args)) or masks[-1])

    def of(module):
        def loss(variables):
            outputs = module.apply(variables, x, context, rngs={"dropout": jax.random.PRNGKey(3)})
            return jnp.sum(jnp.sin(outputs)), outputs

        return jax.value_and_grad(loss, has_aux=True)(variables)

    found = of(dropped)
    (mask,) = masks
    assert mask.shape == (3, 2, 1, 7) and 0 < mask.mean() < 1
    monkeypatch.setattr(jax.nn, "softmax", lambda *args, **named: softmax(*args, **named) * mask / (1 - rate))
    wanted = of(plain)
    assert len(masks) == 1
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6), found, wanted)


def test_activations_are_bfloat16_and_the_rest_float32(params):
    config = dataclasses.replace(CONFIG, dtype="bfloat16")
    inputs, targets = tokens(2, 6), tokens(2, 5, seed=1)
    found = logits(config, params, inputs, targets)
    assert found.dtype == jnp.float32
    assert encode(config, params, inputs).dtype == jnp.bfloat16
    exact = logits(CONFIG, params, inputs, targets)
    assert 0 < jnp.abs(found - exact).mean() < 0.05
    other = logits(dataclasses.replace(config, float32_attention_logits=True), params, inputs, targets)
    assert not jnp.array_equal(other, found)


@pytest.mark.parametrize(("heads", "head_dim", "length"), [(12, 64, 400), (2, 5, 24)])
def test_rows_without_any_key_are_not_nan_in_bfloat16(heads, head_dim, length):
    """The function is compiled, because compilers may keep sums of bfloat16 in float32. One NaN in the padding would
    make the loss NaN."""
    config = dataclasses.replace(
        CONFIG, dtype=jnp.bfloat16, num_heads=heads, head_dim=head_dim, num_encoder_layers=1, num_decoder_layers=1
    )
    module = Transformer(config)
    inputs, targets = tokens(2, length // 3, padding=length // 6), tokens(2, length, padding=length // 2)
    logits, _ = jax.jit(lambda key: module.init_with_output(key, inputs, targets, targets, enable_dropout=False))(
        jax.random.PRNGKey(0)
    )
    assert np.isfinite(np.asarray(logits)).all()


def test_tied_logits_use_the_embedding_table(params):
    config = dataclasses.replace(CONFIG, logits_via_embedding=True, dtype="bfloat16")
    inputs, targets = tokens(2, 6), tokens(2, 5, seed=1)
    tied = logits(config, params, inputs, targets)
    assert tied.dtype == jnp.float32
    # The same model with the scaled embedding table as output matrix.
    table = params["token_embedder"]["embedding"].T / np.sqrt(CONFIG.emb_dim)
    untied = params | {"decoder": params["decoder"] | {"logits_dense": {"kernel": table}}}
    config = dataclasses.replace(config, logits_via_embedding=False)
    np.testing.assert_allclose(tied, logits(config, untied, inputs, targets), rtol=1e-5, atol=1e-5)
    shapes = jax.eval_shape(functools.partial(init, dataclasses.replace(CONFIG, logits_via_embedding=True)))
    assert "logits_dense" in params["decoder"] and "logits_dense" not in shapes["decoder"]


def test_ids_outside_the_vocabulary_are_zeros():
    table = layers.Embedding(5, 3)
    variables = table.init(jax.random.PRNGKey(0), jnp.zeros((1, 1), jnp.int32))
    found = table.apply(variables, jnp.asarray([[4.0, 5.0, -1.0, 99.0]]))
    assert jnp.array_equal(found[0, 0], variables["params"]["embedding"][4])
    assert not found[0, 1:].any()


@pytest.mark.parametrize("bidirectional", [True, False])
def test_buckets(bidirectional):
    # Distances 0 to 7 (15 in one direction) have separate buckets; the other buckets get wider up to 128.
    exact, rest = (8, [8, 11, 12, 15, 16, 22, 23, 31, 32, 45, 46, 63, 64, 90, 91, 127, 128, 5000])
    expected = [8, 8, 9, 9, 10, 10, 11, 11, 12, 12, 13, 13, 14, 14, 15, 15, 15, 15]
    if not bidirectional:
        exact, rest = 16, [16, 18, 19, 20, 21, 23, 31, 32, 63, 64, 112, 113, 128, 5000]
        expected = [16, 16, 17, 17, 18, 18, 21, 21, 26, 26, 30, 31, 31, 31]
    before = -np.asarray([*range(exact), *rest])
    found = attention.buckets(before, bidirectional=bidirectional)
    assert found.tolist() == [*range(exact), *expected]
    after = attention.buckets(-before, bidirectional=bidirectional)
    assert after[1:].tolist() == ((found[1:] + 16).tolist() if bidirectional else [0] * (len(found) - 1))


@pytest.mark.parametrize(
    ("values", "complaint"),
    [
        ({"emb_dim": 0}, "T5Config.emb_dim"),
        ({"num_heads": 2.5}, "T5Config.num_heads"),
        ({"vocab_size": -1}, "T5Config.vocab_size"),
        ({"mlp_activations": ("gelu", "swish")}, "T5Config.mlp_activations"),
        ({"mlp_activations": ()}, "T5Config.mlp_activations"),
        ({"dropout_rate": 1.0}, "T5Config.dropout_rate"),
        ({"dropout_rate": -0.1}, "T5Config.dropout_rate"),
    ],
)
def test_impossible_shapes(values, complaint):
    with pytest.raises(SettingError, match=complaint):
        T5Config(**{**vars(CONFIG), **values})


def test_a_configuration_from_gin_is_hashable():
    config = T5Config(vocab_size=8, dtype="bfloat16", mlp_activations=["gelu", "linear"])
    assert hash(config) == hash(T5Config(vocab_size=8, dtype=jnp.bfloat16, mlp_activations=("gelu", "linear")))
    assert set(ACTIVATIONS) >= {"relu", "gelu", "linear"}


def test_shapes_are_checked(params):
    with pytest.raises(TypeCheckError, match="targets"):
        Transformer(CONFIG).apply({"params": params}, tokens(2, 6), tokens(2, 5), tokens(2, 4), enable_dropout=False)
