"""The switches of the fast path: what is compared with the plain form, for equality and for speed.

Every switch is a set of fields of T5Config and LlamaConfig; ``PLAIN`` has the plain value of all of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

PLAIN: Mapping[str, Any] = {"float32_attention_logits": False, "remat": False}
SWITCHES: Mapping[str, Mapping[str, Any]] = {
    "float32 attention logits": {"float32_attention_logits": True},
    "activations recomputed": {"remat": True},
}
GPU_ONLY: tuple[str, ...] = ()
"""Switches for 16-bit activations on an NVIDIA GPU."""


def applies(switch: str, dtype: str, backend: str) -> bool:
    """Whether a switch can be used with activations of ``dtype`` on a device of JAX's ``backend``."""
    return switch not in GPU_ONLY or (backend == "gpu" and dtype == "bfloat16")


def everything(dtype: str, backend: str) -> dict[str, Any]:
    """Fields with all switches on; where two switches set the same field, the later one counts."""
    fields = dict(PLAIN)
    for name, switch in SWITCHES.items():
        if applies(name, dtype, backend):
            fields |= switch
    return fields
