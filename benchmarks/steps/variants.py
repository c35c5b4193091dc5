"""The switches of the fast path: what is compared with the plain form, for equality and for speed.

Every switch is a set of fields of T5Config or LlamaConfig, or of arguments of the engine's model.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

PLAIN: Mapping[str, Any] = {
    "logits_in_dtype": False,
    "embedding_gradient": "scatter",
    "attention_implementation": "plain",
    "logits_chunk_mib": 0,
}
SWITCHES: Mapping[str, Mapping[str, Any]] = {
    "logits in the dtype": {"logits_in_dtype": True},
    "one-hot embedding gradient": {"embedding_gradient": "one_hot"},
    "loss in chunks": {"logits_chunk_mib": None},
    "attention in blocks": {"attention_implementation": "blocks"},
    "attention recomputed": {"attention_implementation": "recompute"},
    "cuDNN attention": {"attention_implementation": "cudnn"},
}
"""Where two switches set the same field, the later one counts if all are on."""
GPU_ONLY = ("cuDNN attention",)
"""Switches for bfloat16 activations on an NVIDIA GPU."""


def switches(network: str, dtype: str, backend: str) -> dict[str, dict[str, Any]]:
    """All fields with one of the switches on, by its name.

    Args:
      network: ``t5`` or ``llama``.
      dtype: dtype of the activations. Switches that cannot be used with it are left out.
      backend: JAX's name of the device's platform. The same.
    """
    on_gpu = backend == "gpu" and dtype == "bfloat16"
    return {name: {**PLAIN, **fields} for name, fields in SWITCHES.items() if on_gpu or name not in GPU_ONLY}


def everything(network: str, dtype: str, backend: str) -> dict[str, Any]:
    """Fields with all switches on."""
    fields = dict(PLAIN)
    for name in switches(network, dtype, backend):
        fields |= SWITCHES[name]
    return fields
