"""Compares the time of a training step, by rows, lengths and layers, with the operations that it computes.

    python -m benchmarks step_cost

The student is T5 v1.0 small; every variant differs in one number from ``--rows`` rows of 128/400 tokens and six layers.
All are compiled first; then each makes one step in every round, in turn. The table has the median and range of the
seconds of a step, the ratio to the seconds of the first variant (geometric mean and range of the ratios within a
round), and the same ratio of floating-point operations (steps/operations.py). The rows are full, because padding costs
as much as text.
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import statistics
import sys
import time
from importlib import metadata
from typing import Any

import jax
import numpy as np
from _machine import processor
from steps.engine import trainer_of
from steps.operations import of_examples

from fsa_base.networks.t5.network import T5Config, Transformer
from fsa_jax.common.training_engine import KEEPING_MEMORY
from fsa_jax.training import optim
from t5x import models, optimizers
from t5x.trainer import Trainer

MODEL = T5Config(vocab_size=32128, logits_via_embedding=True)
"""gin/models/t5_1_0_small.gin."""
SCHEDULE: Any = optim.cosine(total_steps=200_000)
OPTIMIZER = optimizers.OptaxWrapper(optim.rms_scaled_adamw(SCHEDULE))
"""The same object for all variants, because a compiled step takes only states of its own optimizer."""
FEATURES = {"encoder": ("input_tokens",), "decoder": ("input_tokens", "target_tokens", "loss_weights")}
PACKED = ("segment_ids", "positions")


@dataclasses.dataclass(frozen=True)
class Variant:
    """One shape of batch and network."""

    rows: int
    inputs: int = 128
    targets: int = 400
    layers: int = 6

    def __str__(self) -> str:
        return f"{self.rows} | {self.inputs}/{self.targets} | {self.layers}"

    @property
    def config(self) -> T5Config:
        return dataclasses.replace(MODEL, num_encoder_layers=self.layers, num_decoder_layers=self.layers)


def operations(of: Variant) -> float:
    """Floating-point operations of a step, in TFLOP; all that is computed counts."""
    settings = {**dataclasses.asdict(of.config), "network": "t5"}
    lengths = (np.full(of.rows, length) for length in (of.inputs, of.targets))
    return of_examples(settings, *lengths, masked=True) / 1e12


def variants(rows: int) -> list[Variant]:
    """The first is the one that the others are compared with."""
    first = Variant(rows)
    by_rows = [Variant(count) for count in (rows // 2, 2 * rows, 4 * rows)]
    by_length = [Variant(rows, 64, 200), Variant(rows, 256, 800)]
    by_layers = [Variant(rows, layers=2), Variant(rows, layers=4)]
    return [first, *by_rows, *by_length, *by_layers]


def batch_of(of: Variant) -> dict[str, np.ndarray]:
    """Full packed rows, each of one example of random tokens."""
    draw, batch = np.random.default_rng(0), {}
    for side, length in (("encoder", of.inputs), ("decoder", of.targets)):
        shape = (of.rows, length)
        for name in (*FEATURES[side], *PACKED):
            batch[f"{side}_{name}"] = np.ones(shape, np.int32)
            if name.endswith("tokens"):
                batch[f"{side}_{name}"] = draw.integers(2, 32_000, shape, dtype=np.int32)
        batch[f"{side}_positions"][:] = np.arange(length)
    return batch


def compiled(of: Variant, batch: dict[str, np.ndarray]) -> Trainer:
    """A trainer whose step is compiled for the batch."""
    no_vocabulary: Any = None  # the loss needs none
    network = Transformer(of.config)
    normalizer = "NUM_REAL_TARGET_TOKENS"
    model = models.EncoderDecoderModel(
        network, no_vocabulary, no_vocabulary, OPTIMIZER, loss_normalizing_factor=normalizer
    )
    trainer = trainer_of(model, batch, SCHEDULE)
    trainer.compile_train({name: jax.ShapeDtypeStruct(column.shape, column.dtype) for name, column in batch.items()})
    return trainer


def main() -> None:
    """Measures and prints the table."""
    if "GLIBC_TUNABLES" not in os.environ:  # as fsa train sets it; it counts from the start of a process
        os.execve(sys.executable, sys.orig_argv, os.environ | KEEPING_MEMORY)
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--rows", type=int, default=4)
    options = parser.parse_args()
    seconds: dict[Variant, list[float]] = {variant: [] for variant in variants(options.rows)}
    batches = {variant: batch_of(variant) for variant in seconds}
    trainers = {variant: compiled(variant, batches[variant]) for variant in seconds}
    # Variants of equal layers share a state, which a step donates, so that all fit into the memory.
    states: dict[int, Any] = {variant.layers: trainer.train_state for variant, trainer in trainers.items()}
    for trainer in trainers.values():
        trainer.train_state = None  # pyright: ignore[reportAttributeAccessIssue]
    for number in range(options.rounds + 1):
        for variant, trainer in trainers.items():
            began = time.perf_counter()
            trainer.train_state = states.pop(variant.layers)
            trainer.train_step(batches[variant])
            states[variant.layers] = jax.block_until_ready(trainer.train_state)
            # The first round only takes memory from the system.
            if number:
                seconds[variant].append(time.perf_counter() - began)
        print(".", end="", file=sys.stderr, flush=True)
    versions = f"jax {metadata.version('jax')}"
    print(
        f"{processor()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}, {versions}; {options.rounds} rounds\n"
    )
    print("| rows | lengths | layers | TFLOP | seconds | ratio | ratio of operations |")
    print("| ---: | ---: | ---: | ---: | ---: | ---: | ---: |")
    first = next(iter(seconds))
    for variant, times in seconds.items():
        ratios = [mine / theirs for mine, theirs in zip(times, seconds[first], strict=True)]
        cells = [
            f"{operations(variant):.2f}",
            f"{statistics.median(times):.2f} ({min(times):.2f} to {max(times):.2f})",
            f"{statistics.geometric_mean(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})",
            f"{operations(variant) / operations(first):.2f}",
        ]
        print(f"| {variant} | {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
