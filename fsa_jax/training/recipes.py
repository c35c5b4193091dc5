"""The sizes for which gin/ has recipes, and which of them a run or an imported model has."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Size:
    """A T5 student of gin/.

    Args:
      model: its file in gin/models.
      network: the settings of ``T5Config`` that this file sets and that distinguish it.
      period: ``PERIOD`` of its distillation recipe; None if the recipe has none.
      dtype: dtype of the computation in this file.
      hardware: what its recipes are for.
    """

    model: str
    network: Mapping[str, Any]
    period: int | None
    dtype: str
    hardware: str


def _network(emb_dim: int, heads: int, layers: int, mlp_dim: int, head_dim: int, activations: tuple[str, ...]) -> dict:
    return {
        "emb_dim": emb_dim,
        "num_heads": heads,
        "num_encoder_layers": layers,
        "num_decoder_layers": layers,
        "head_dim": head_dim,
        "mlp_dim": mlp_dim,
        "mlp_activations": activations,
        "logits_via_embedding": True,
    }


SIZES: Mapping[str, Size] = {
    "10m": Size("t5_small", _network(192, 6, 4, 512, 32, ("gelu", "linear")), 200, "float32", "2 CPU cores"),
    "60m": Size("t5_1_0_small", _network(512, 8, 6, 2048, 64, ("relu",)), 500, "bfloat16", "many cores, or a GPU"),
    "base": Size("t5_1_0_base", _network(768, 12, 12, 3072, 64, ("relu",)), None, "bfloat16", "an H200, or a TPU v3-8"),
    "large": Size("t5_1_0_large", _network(1024, 16, 24, 4096, 64, ("relu",)), None, "bfloat16", "an H200"),
}
"""By the word of ``--size``; gin/distill_SIZE.gin and gin/finetune_SIZE.gin are the recipes."""

CHAT = "chat"
"""The word in the names of the recipes of decoder-only students, whose size is that of the imported model."""


def size_of(network: Mapping[str, Any]) -> str | None:
    """The size with these settings of ``T5Config``; None if no recipe has them."""
    for name, size in SIZES.items():
        if all(network.get(setting) == value for setting, value in size.network.items()):
            return name
    return None
