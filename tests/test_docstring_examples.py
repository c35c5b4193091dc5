"""The examples in docstrings give what they say."""

from __future__ import annotations

import doctest
import importlib

import pytest


@pytest.mark.parametrize(
    "module",
    [
        "fsa_jax.common.latex",
        "fsa_jax.evaluation.released_rule",
        "fsa_jax.evaluation.tuple_counts",
        "fsa_jax.text.analysis",
        "fsa_jax.text.pairs",
        "fsa_jax.training.optim",
    ],
)
def test_examples_give_what_they_say(module: str) -> None:
    ran = doctest.testmod(importlib.import_module(module))
    assert ran.attempted and not ran.failed
