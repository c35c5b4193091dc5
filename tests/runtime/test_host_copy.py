"""Copies of a state for a save beside the next steps."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding, PartitionSpec

from t5x.checkpointing.host_copy import HostCopy


def state(start: float, spec: PartitionSpec) -> dict[str, Any]:
    sharding = NamedSharding(jax.make_mesh((8,), ("data",)), spec)
    array = jax.device_put(jnp.arange(start, start + 64).reshape(8, 8), sharding)
    return {"array": array, "scalar": jnp.float32(start), "of_the_host": np.full(3, start)}


def pointers(array: jax.Array) -> list[int]:
    return [shard.data.unsafe_buffer_pointer() for shard in array.addressable_shards]


@pytest.mark.parametrize("spec", [PartitionSpec(), PartitionSpec("data")])
def test_the_second_copy_is_exact_and_in_the_memory_of_the_first(spec):
    copies = HostCopy()
    first = copies.of(state(0, spec))
    memory = pointers(first["array"])
    saved = state(100, spec)
    second = copies.of(saved)
    jax.tree.map(np.testing.assert_array_equal, second, saved)
    assert second["array"].sharding.is_equivalent_to(saved["array"].sharding, 2)
    assert pointers(second["array"]) == memory
    assert not set(pointers(saved["array"])) & set(memory)


def test_a_copy_that_is_still_read_is_not_overwritten():
    copies = HostCopy()
    read = np.asarray(copies.of(state(0, PartitionSpec()))["array"])
    copies.of(state(100, PartitionSpec()))
    np.testing.assert_array_equal(read, np.arange(64).reshape(8, 8))
