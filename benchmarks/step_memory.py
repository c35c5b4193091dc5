"""Estimates the largest batch that fits into the memory of a device, by model and dtype, without training.

    python -m benchmarks step_memory --models small base

The step of each model is compiled for two numbers of packed rows. From XLA's account of its memory (state, batch, and
temporary arrays, as ``--run_mode=precompile`` prints it) follow the memory that does not depend on the rows and that of
a row. Nothing is allocated, so models may be larger than this machine's memory. The account is that of the compiler for
this machine's device: on a CPU it is an estimate for others, and in bfloat16 a high one, because XLA computes some
bfloat16 operations on a CPU in float32.
"""

from __future__ import annotations

import argparse
import dataclasses
import functools
import sys
from importlib import metadata
from typing import Any

import jax
import numpy as np
from _machine import processor
from step_cost import FEATURES, MODEL, PACKED

from fsa_base.networks.t5.network import T5Config, Transformer
from fsa_jax.training import optim
from t5x import models, optimizers
from t5x.partitioning import PjitPartitioner
from t5x.train_state import FlaxOptimTrainState
from t5x.trainer import StepMemory, Trainer

SIZES: dict[str, dict[str, int]] = {
    "small": {},
    "base": {"emb_dim": 768, "num_heads": 12, "num_encoder_layers": 12, "num_decoder_layers": 12, "mlp_dim": 3072},
    "large": {"emb_dim": 1024, "num_heads": 16, "num_encoder_layers": 24, "num_decoder_layers": 24, "mlp_dim": 4096},
}
"""T5 v1.0 by the names of gin/models/t5_1_0_*.gin."""
SHARE = 0.9
"""Share of a device's memory that JAX takes for arrays; the rest is for its code and libraries."""


def memory(config: T5Config, rows: int, lengths: tuple[int, int]) -> int:
    """Bytes that the step of a model needs for a batch, on one device."""
    schedule: Any = optim.cosine(total_steps=200_000)
    optimizer = optimizers.OptaxWrapper(optim.rms_scaled_adamw(schedule))
    no_vocabulary: Any = None  # the loss needs none
    options: dict[str, Any] = {"loss_normalizing_factor": "NUM_REAL_TARGET_TOKENS", "logits_chunk_mib": 1024}
    model = models.EncoderDecoderModel(Transformer(config), no_vocabulary, no_vocabulary, optimizer, **options)
    shapes = {
        f"{side}_{name}": (rows, length)
        for side, length in zip(FEATURES, lengths, strict=True)
        for name in (*FEATURES[side], *PACKED)
    }
    initialize = functools.partial(model.get_initial_variables, jax.random.PRNGKey(0), shapes)
    state = jax.eval_shape(lambda: FlaxOptimTrainState.create(optimizer, initialize()))
    partitioner = PjitPartitioner(num_partitions=1)
    axes = partitioner.get_mesh_axes(state)
    trainer = Trainer(model, state, partitioner, [], None, axes, jax.random.PRNGKey(0), schedule, None)
    _, compiled = trainer.compile_train({name: jax.ShapeDtypeStruct(shape, np.int32) for name, shape in shapes.items()})
    found = StepMemory.of(compiled)
    if found is None:
        sys.exit(f"{jax.devices()[0].device_kind} does not say how much memory a step needs; use JAX_PLATFORMS=cpu")
    return found.arguments + found.temporary


def main() -> None:
    """Prints a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", choices=SIZES, default=list(SIZES))
    parser.add_argument("--dtypes", nargs="+", choices=("float32", "bfloat16"), default=["float32", "bfloat16"])
    parser.add_argument("--row_lengths", type=int, nargs=2, default=(208, 640), help="of inputs and targets")
    parser.add_argument("--rows", type=int, nargs=2, default=(8, 16), help="the two numbers that are compiled")
    parser.add_argument("--devices", type=int, nargs="+", default=(16, 24, 80, 141), help="memory in GB")
    options = parser.parse_args()
    device = jax.devices()[0]
    print(f"{processor()}, compiled for {device.platform} by jax {metadata.version('jax')}\n")
    few, many = options.rows
    print(f"| model | dtype | fixed, GB | a row, GB | {' | '.join(f'rows in {size} GB' for size in options.devices)} |")
    print(f"| --- | --- |{' ---: |' * (2 + len(options.devices))}")
    for name in options.models:
        for dtype in options.dtypes:
            # Layers are scanned, because they are compiled much faster and need about the same memory.
            config = dataclasses.replace(MODEL, dtype=dtype, scan_layers=True, **SIZES[name])
            needed = [memory(config, rows, tuple(options.row_lengths)) for rows in (few, many)]
            row = (needed[1] - needed[0]) / (many - few)
            fixed = needed[0] - few * row
            fitting = [max(0, int((SHARE * size * 1e9 - fixed) // row)) for size in options.devices]
            cells = [f"{fixed / 1e9:.1f}", f"{row / 1e9:.2f}", *map(str, fitting)]
            print(f"| {name} | {dtype} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
