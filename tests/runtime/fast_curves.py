"""Compares loss curves of the demo's T5: fast and plain step from one seed, and plain steps from two seeds.

    python tests/runtime/fast_curves.py

It trains 200 steps three times on packed rows of real text, and fails unless the fast curve is closer to the plain one
than that of the other seed. This takes minutes, so it is not a test.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import jax
import numpy as np
import packed_text
import seqio

import gin
from fsa_base.networks import t5
from fsa_jax.training import optim
from t5x import models, optimizers
from t5x.partitioning import PjitPartitioner
from t5x.train_state import FlaxOptimTrainState
from t5x.trainer import Trainer

STEPS, ROWS = 200, 4
CHUNK_MIB = 1.0
"""A third of the logits of a step, which are 512 tokens times 1,536 rows of the vocabulary."""
FAST = {"logits_in_dtype": True, "embedding_gradient": "one_hot", "attention_implementation": "recompute"}


def curve(
    config: t5.T5Config, batches: list[dict[str, np.ndarray]], seed: int, logits_chunk_mib: float = 0
) -> np.ndarray:
    """The loss of every step."""
    schedule: Any = optim.cosine(total_steps=STEPS)
    optimizer = optimizers.OptaxWrapper(optim.rms_scaled_adamw(schedule))
    vocabulary: Any = packed_text.VOCABULARY
    model = models.EncoderDecoderModel(
        t5.Transformer(config),
        vocabulary,
        vocabulary,
        optimizer,
        loss_normalizing_factor="NUM_REAL_TARGET_TOKENS",
        logits_chunk_mib=logits_chunk_mib,
    )
    shapes = {name: values.shape for name, values in batches[0].items()}
    key, dropout = jax.random.split(jax.random.PRNGKey(seed))
    state = FlaxOptimTrainState.create(optimizer, model.get_initial_variables(key, shapes))
    partitioner = PjitPartitioner(num_partitions=1)
    axes = partitioner.get_mesh_axes(state)
    trainer = Trainer(model, state, partitioner, [], None, axes, dropout, schedule, None)
    return np.array([float(trainer.train_step(batch)["loss"].compute()) for batch in batches])


def main() -> None:
    """Trains, and prints the mean distances between the curves."""
    demo = str(Path(__file__).parents[2] / "gin" / "models" / "t5_demo.gin")
    gin.parse_config_files_and_bindings([demo], ["DROPOUT_RATE = 0.1", "OPTIMIZER = None"])
    plain: t5.T5Config = gin.get_configurable(t5.T5Config)()
    lengths = {"inputs": 64, "targets": 128}
    batches = packed_text.batches(seqio.EncDecFeatureConverter(pack=True), lengths, ROWS, STEPS)
    expected = curve(plain, batches, 0)
    found = curve(dataclasses.replace(plain, **FAST), batches, 0, CHUNK_MIB)
    other = curve(plain, batches, 1)
    print(f"loss of the plain step: {expected[0]:.4f} at first, {expected[-1]:.4f} at last")
    distances = [np.abs(losses - expected) for losses in (found, other)]
    for name, far in zip(("fast", "other seed"), distances, strict=True):
        print(f"{name}: distance to it {far.mean():.2e} on average, {far.max():.2e} at most")
    assert distances[0].mean() < distances[1].mean()


if __name__ == "__main__":
    main()
