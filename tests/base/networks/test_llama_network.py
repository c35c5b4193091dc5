from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.traverse_util import flatten_dict
from jaxtyping import TypeCheckError
from shape_checks import checked

from fsa_base.errors import SettingError
from fsa_base.networks.llama.config import LlamaConfig, RopeScaling, rotary_frequencies
from fsa_jax.weights.hf_mapping import flatten, stacked
from fsa_jax.weights.llama import leaves

# The functions of these modules check the shapes in their signatures.
_, _, network = checked(
    "fsa_base.networks.layers", "fsa_base.networks.llama.attention", "fsa_base.networks.llama.network"
)
LlamaTransformer = network.LlamaTransformer

CONFIG = LlamaConfig(
    vocab_size=64,
    emb_dim=32,
    num_heads=4,
    num_kv_heads=2,
    num_layers=2,
    head_dim=8,
    mlp_dim=48,
    rope_scaling=RopeScaling(original_length=16),
    query_key_norm=True,
    attention_bias=True,
)


@pytest.fixture(scope="module")
def variables():
    made = LlamaTransformer(CONFIG).init(jax.random.PRNGKey(0), jnp.ones((1, 4)), enable_dropout=False)
    # Biases and norms are initialised with zeros and ones, which would hide a mistake.
    leaves, tree = jax.tree.flatten(made["params"])
    keys = jax.random.split(jax.random.PRNGKey(1), len(leaves))
    leaves = [leaf + 0.1 * jax.random.normal(key, leaf.shape) for leaf, key in zip(leaves, keys, strict=True)]
    return {"params": jax.tree.unflatten(tree, leaves)}


@pytest.fixture(scope="module")
def tokens():
    return jax.random.randint(jax.random.PRNGKey(2), (3, 12), 0, CONFIG.vocab_size)


@pytest.fixture(scope="module")
def apply():
    return jax.jit(lambda variables, *args, **kwargs: LlamaTransformer(CONFIG).apply(variables, *args, **kwargs))


def test_the_parameter_tree_matches_the_mapping(variables):
    found = {path: leaf.shape for path, leaf in flatten(variables["params"])}
    assert found == {leaf.path: leaf.shape for leaf in leaves(CONFIG)}


def test_segment_ids_of_another_shape_are_refused(variables, tokens):
    with pytest.raises(TypeCheckError):
        LlamaTransformer(CONFIG).apply(variables, tokens, decoder_segment_ids=jnp.ones((3, 11), jnp.int32))


def test_every_parameter_has_logical_axes():
    made = LlamaTransformer(CONFIG).init(jax.random.PRNGKey(0), jnp.ones((1, 4)), enable_dropout=False)
    axes = {
        (*path[:-1], path[-1].removesuffix("_axes")): axes for path, axes in flatten_dict(made["params_axes"]).items()
    }
    params = flatten_dict(made["params"])
    assert axes.keys() == params.keys()
    for path, leaf in params.items():
        assert len(axes[path].names) == leaf.ndim, path


def test_a_later_token_changes_nothing_before_it(variables, tokens, apply):
    changed = tokens.at[:, 7].set((tokens[:, 7] + 1) % CONFIG.vocab_size)
    before, after = apply(variables, tokens), apply(variables, changed)
    np.testing.assert_array_equal(before[:, :7], after[:, :7])
    assert (before[:, 7:] != after[:, 7:]).any()


def test_packed_examples_do_not_attend_to_each_other(variables, tokens, apply):
    segments = jnp.asarray([[1] * 5 + [2] * 6 + [0]])
    positions = jnp.asarray([[*range(5), *range(6), 0]])
    packed = apply(variables, tokens[:1], decoder_segment_ids=segments, decoder_positions=positions)
    np.testing.assert_allclose(packed[0, :5], apply(variables, tokens[:1, :5])[0], atol=1e-5)
    np.testing.assert_allclose(packed[0, 5:11], apply(variables, tokens[:1, 5:11])[0], atol=1e-5)


def test_a_prefix_attends_to_itself_in_both_directions(variables, tokens, apply):
    prefix = jnp.asarray([[1] * 4 + [0] * 8] * 3)
    changed = tokens.at[:, 3].set((tokens[:, 3] + 1) % CONFIG.vocab_size)
    before = apply(variables, tokens, decoder_causal_attention=prefix)
    after = apply(variables, changed, decoder_causal_attention=prefix)
    assert (before[:, 0] != after[:, 0]).any()


@pytest.mark.parametrize("left", [False, True], ids=["right-padded", "left-padded"])
@pytest.mark.parametrize("scan_layers", [False, True])
def test_cached_decoding_equals_one_full_call(left, scan_layers, variables, tokens):
    config, length, prompts = dataclasses.replace(CONFIG, scan_layers=scan_layers), 12, np.array([6, 4, 1])
    if scan_layers:
        flat = dict(flatten(variables["params"]))
        groups: dict = {}
        for path, leaf in flat.items():
            groups.setdefault(stacked(path), []).append(leaf)
        tree: dict = {}
        for path, group in groups.items():
            node = tree
            for key in path[:-1]:
                node = node.setdefault(key, {})
            node[path[-1]] = jnp.stack(group) if "layers" in path else group[0]
        variables = {"params": tree}
    module = LlamaTransformer(config)
    whole: Any = module.apply(variables, tokens)
    width = 6
    mask = np.arange(width)[None, :] < prompts[:, None]
    padded = np.where(mask, np.asarray(tokens)[:, :width], 63)
    if left:
        padded = np.stack([np.roll(row, width - n) for row, n in zip(padded, prompts, strict=True)])
        mask = mask[:, ::-1]
    _, empty = module.apply(variables, jnp.zeros((3, length + width)), decode=True, mutable=["cache"])
    filled_to = jnp.full((3,), width) if left else jnp.asarray(prompts)
    segments: dict[str, Any] = {"decoder_segment_ids": jnp.asarray(mask, jnp.int32)} if left else {}
    logits, filled = module.apply(
        {**variables, **empty},
        jnp.asarray(padded),
        prefill=True,
        prefill_lengths=filled_to,
        mutable=["cache"],
        **segments,
    )
    for row, n in enumerate(prompts):
        at = slice(width - n, width) if left else slice(0, n)
        np.testing.assert_allclose(logits[row, at], whole[row, :n], atol=1e-4)
    cache = filled["cache"]
    step = jax.jit(
        lambda cache, last: module.apply({**variables, "cache": cache}, last, decode=True, mutable=["cache"])
    )
    for i in range(4):
        last = np.take_along_axis(np.asarray(tokens), (prompts + i)[:, None], axis=1)
        logits, changed = step(cache, last)
        cache = changed["cache"]
        for row, n in enumerate(prompts):
            np.testing.assert_allclose(logits[row, 0], whole[row, n + i], atol=1e-4)


def test_only_slow_frequencies_are_scaled():
    plain = rotary_frequencies(dataclasses.replace(CONFIG, head_dim=64, rope_scaling=None))
    scaling = RopeScaling(factor=32.0, original_length=8192)
    scaled = rotary_frequencies(dataclasses.replace(CONFIG, head_dim=64, rope_scaling=scaling))
    wavelength = 2 * np.pi / plain
    np.testing.assert_allclose(scaled[wavelength < 8192 / 4], plain[wavelength < 8192 / 4], rtol=1e-6)
    np.testing.assert_allclose(scaled[wavelength > 8192], plain[wavelength > 8192] / 32, rtol=1e-6)
    between = (wavelength > 8192 / 4) & (wavelength < 8192)
    assert between.any() and ((scaled < plain) & (scaled > plain / 32))[between].all()


@pytest.mark.parametrize(
    ("changes", "setting"),
    [({"num_kv_heads": 3}, "num_kv_heads"), ({"head_dim": 7}, "head_dim"), ({"num_layers": 0}, "num_layers")],
)
def test_an_impossible_configuration_is_refused(changes, setting):
    with pytest.raises(SettingError, match=setting):
        dataclasses.replace(CONFIG, **changes)
