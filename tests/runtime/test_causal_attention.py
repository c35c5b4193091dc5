"""Causal attention in blocks computes what attention to all keys computes."""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fsa_base.networks.causal_attention import in_causal_blocks
from fsa_base.networks.llama import attention as llama
from fsa_base.networks.t5 import attention as t5

ROWS, HEADS, WIDTH = 2, 4, 8
FAMILIES = ("t5", "llama")


def inputs(family: str, length: int) -> tuple[Any, list[jax.Array], list[jax.Array]]:
    """The function of a family, query, key and value, and the arrays for their pairs; rows have two examples."""
    keys = jax.random.split(jax.random.PRNGKey(0), 4)
    kv_heads = 2 if family == "llama" else HEADS
    shapes = [(ROWS, length, heads, WIDTH) for heads in (HEADS, kv_heads, kv_heads)]
    arrays = [jax.random.normal(key, shape) for key, shape in zip(keys, shapes, strict=False)]
    segments = jnp.broadcast_to(jnp.arange(length) * 3 // length, (ROWS, length))  # 0, the first third, is padding
    mask = t5.causal_mask(length) & t5.attention_mask(segments, segments, segments, segments)
    if family == "llama":
        return llama.attend, arrays, [mask[:, None]]
    return t5.attend, arrays, [mask, jax.random.normal(keys[3], (1, HEADS, length, length))]


@pytest.mark.parametrize("length", [20, 128, 130])
@pytest.mark.parametrize("family", FAMILIES)
def test_results_and_gradients_are_those_of_all_keys(family, length):
    attend, arrays, masks = inputs(family, length)
    real = slice(-(-length // 3), length)
    target = jax.random.normal(jax.random.PRNGKey(1), arrays[0].shape)[:, real]

    def loss(blocks: bool, arrays: list[jax.Array], bias: list[jax.Array]) -> tuple[jax.Array, jax.Array]:
        of_pairs = [masks[0], *bias]
        found = in_causal_blocks(attend, *arrays, *of_pairs) if blocks else attend(*arrays, *of_pairs)
        return jnp.sum(found[:, real] * target), found[:, real]

    compared = [
        jax.jit(jax.value_and_grad(functools.partial(loss, blocks), (0, 1), has_aux=True))(arrays, masks[1:])
        for blocks in (True, False)
    ]
    jax.tree.map(lambda one, other: np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-5), *compared)


@pytest.mark.parametrize("family", FAMILIES)
def test_most_weights_of_later_keys_are_not_computed(family):
    attend, arrays, masks = inputs(family, 512)

    def operations(compute: Any) -> float:
        analysis: Any = jax.jit(compute).lower(*arrays, *masks).compile().cost_analysis()
        return analysis["flops"]

    assert operations(lambda *all_: in_causal_blocks(attend, *all_)) < 0.7 * operations(attend)
