"""The families of models that can be imported and exported."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fsa_jax.errors import CheckpointError
from fsa_jax.models.hf.mapping import Family
from fsa_jax.models.llama import hf as llama
from fsa_jax.models.t5 import hf as t5

FAMILIES: tuple[Family, ...] = (t5.FAMILY, llama.FAMILY)


def family_of(config: Mapping[str, Any]) -> Family:
    """The family of a config.json.

    Raises:
      CheckpointError: it is of none of them.
    """
    model_type = config.get("model_type")
    for family in FAMILIES:
        if model_type in family.model_types:
            return family
    raise CheckpointError(
        "config.json: model_type",
        expected="one of " + ", ".join(name for family in FAMILIES for name in family.model_types),
        found=repr(model_type),
        fix="import T5 v1.0 or v1.1, Flan-T5, Llama-3.2, Qwen2.5 or Qwen3",
    )
