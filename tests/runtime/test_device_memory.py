"""What a compiled step takes, and the errors where a device has less."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import pytest

from fsa_base.errors import SettingError
from t5x.errors import for_user
from t5x.trainer import StepMemory


def test_the_needs_of_a_compiled_function():
    def two_products(x):
        return (jnp.sin(x) @ x) @ x

    needs = StepMemory.of(jax.jit(two_products).lower(jnp.ones((512, 512))).compile())
    assert needs is not None
    assert needs.arguments == 512 * 512 * 4
    assert 512 * 512 * 4 <= needs.temporary <= 5 * 512 * 512 * 4


def test_donated_arguments_are_counted_once():
    step = jax.jit(lambda x: x + 1, donate_argnums=0).lower(jnp.ones(2**20)).compile()
    needs = StepMemory.of(step)
    assert needs is not None and needs.arguments == 2**22 and needs.temporary < 2**20


def test_a_step_that_does_not_fit_is_an_error_that_says_how_to_fix_it():
    needs = StepMemory(arguments=60 * 2**30, temporary=30 * 2**30)
    needs.require(90 * 2**30)
    needs.require(None)
    with pytest.raises(SettingError, match=r"within the 80 GiB of a device, found 90 GiB a device \(60 GiB state"):
        needs.require(80 * 2**30)


def test_memory_that_runs_out_later_is_an_error_too():
    error = jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 12 bytes.\nBufferAssignment …")
    found = for_user(error)
    assert found is not None and found.found == "RESOURCE_EXHAUSTED: Out of memory allocating 12 bytes."
    assert "num_microbatches" in found.fix
    assert for_user(jax.errors.JaxRuntimeError("INTERNAL: something else")) is None
