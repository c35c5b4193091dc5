"""How much the kit measures: ``full`` on a GPU, ``tiny`` anywhere, to test the kit."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Packing:
    """A way to fill the rows of a training step.

    Args:
      data: folder of the tokens in the kit.
      packing: ``best_fit`` or ``next_fit``.
      rows: rows of a step.
    """

    data: str
    packing: str
    rows: int

    @property
    def name(self) -> str:
        """How tables call it."""
        return f"{self.rows} rows of {self.data}, {self.packing.replace('_', '-')}"


@dataclass(frozen=True)
class Size:
    """What is measured.

    Args:
      model: size of the T5, as in benchmarks/steps/weights.py.
      small: size of the second T5.
      decoders: sizes of the decoder-only models.
      dtype: dtype of activations in the training steps.
      packings: the recipe's packing first.
      decoder_rows: rows of a decoder-only step of ours.
      decoder_examples: examples of one of PyTorch's.
      recipe: examples of a backward pass of the released recipe, and passes of a step.
      tuned: examples of a backward pass of the tuned PyTorch.
      shapes: lengths that the tuned PyTorch compiles.
      compiler: its compiler. On a CPU ``inductor`` takes minutes, ``aot_eager`` half a minute.
      memory_rows: rows of steps whose memory is compared.
      matrix: width of the square matrices with which the peak is measured.
      copied: bytes of the copies with which the bandwidth is measured.
      layers: layers of the encoder, and of the decoder, with which gradients are compared.
      compared_rows: packed rows of which they are.
      each_switch: whether each switch of the fast path is compared by itself, besides all together.
      turn: seconds of a turn of a training step.
      rounds: turns of each contender.
      decoded: examples that are decoded, and new tokens of each.
    """

    model: str
    small: str
    decoders: tuple[str, ...]
    dtype: str
    packings: tuple[Packing, ...]
    decoder_rows: int
    decoder_examples: int
    recipe: tuple[int, int]
    tuned: int
    shapes: int
    compiler: str
    memory_rows: tuple[int, ...]
    matrix: int
    copied: int
    layers: int
    compared_rows: int
    each_switch: bool
    turn: float
    rounds: int
    decoded: tuple[int, int]


LAYERS = ("num_encoder_layers", "num_decoder_layers")
SIZES: Mapping[str, Size] = {
    "full": Size(
        model="base",
        small="small",
        decoders=("1b", "0.5b"),
        dtype="bfloat16",
        packings=(
            Packing("208_640", "best_fit", 40),
            Packing("128_400", "best_fit", 72),
            Packing("128_400", "next_fit", 88),
        ),
        decoder_rows=16,
        decoder_examples=32,
        recipe=(20, 5),
        tuned=100,
        shapes=4,
        compiler="inductor",
        memory_rows=(20, 80),
        matrix=8192,
        copied=4 * 2**30,
        layers=2,
        compared_rows=4,
        each_switch=True,
        turn=3.0,
        rounds=3,
        decoded=(128, 128),
    ),
    "tiny": Size(
        model="tiny",
        small="tiny",
        decoders=("tiny",),
        dtype="bfloat16",
        packings=(Packing("208_640", "best_fit", 1),),
        decoder_rows=1,
        decoder_examples=2,
        recipe=(1, 2),
        tuned=2,
        shapes=1,
        compiler="eager",
        memory_rows=(),
        matrix=256,
        copied=2**20,
        layers=1,
        compared_rows=1,
        each_switch=False,
        turn=0.0,
        rounds=1,
        decoded=(2, 4),
    ),
}

T5_FIELDS: Mapping[str, Mapping[str, Any]] = {
    "tiny": {"emb_dim": 64, "num_heads": 4, "head_dim": 16, "mlp_dim": 128, **dict.fromkeys(LAYERS, 1)},
    "base": {"emb_dim": 768, "num_heads": 12, "head_dim": 64, "mlp_dim": 3072, **dict.fromkeys(LAYERS, 12)},
}
"""Sizes of a T5, for what must not depend on transformers."""
T5_COMMON: Mapping[str, Any] = {
    "network": "t5",
    "vocab_size": 32_128,
    "mlp_activations": ["relu"],
    "logits_via_embedding": True,
}
LLAMA_FIELDS: Mapping[str, Mapping[str, Any]] = {
    "tiny": {"emb_dim": 64, "num_heads": 4, "num_kv_heads": 2, "head_dim": 16, "mlp_dim": 128, "vocab_size": 32_128},
    "base": {"emb_dim": 896, "num_heads": 14, "num_kv_heads": 2, "head_dim": 64, "mlp_dim": 4864, "vocab_size": 65_536},
}
"""Sizes of a decoder-only network, without its layers, by the size of the T5: the widths of Qwen2.5-0.5B."""
