"""A contender of training_step.py: the training step of the engine, of this checkout or of an earlier one.

    python benchmarks/steps/jax_step.py FOLDER PACKING ROWS CHECKOUT

CHECKOUT is the one whose packages are on PYTHONPATH. Neither TensorFlow nor SeqIO is imported.
"""

from __future__ import annotations

import itertools
import json
import sys
from pathlib import Path
from typing import Any

import jax
import numpy as np
import turns
from flax import traverse_util

from t5x import models, optimizers
from t5x.partitioning import PjitPartitioner
from t5x.train_state import FlaxOptimTrainState
from t5x.trainer import Trainer

STEPS = 200_000


def main() -> None:
    """Trains whenever it is asked."""
    folder, packing, rows, checkout = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), Path(sys.argv[4])
    if (checkout / "base").is_dir():
        from fsa_base.networks.t5 import network
        from fsa_jax.training import optim
    else:  # as in commit 528859f; an installed fsa_jax of this checkout would be found under its names, too
        from fsa_jax.models.t5 import network  # pyright: ignore

        from fsa_jax import optim  # pyright: ignore
    for module in (models, network, optim):
        if checkout not in Path(str(module.__file__)).resolve().parents:
            sys.exit(f"{module.__name__} is not of {checkout}, but {module.__file__}")
    parameters = traverse_util.unflatten_dict(dict(np.load(folder / "weights.npz")), sep="/")
    settings = json.loads((folder / "config.json").read_text())
    settings["mlp_activations"] = tuple(settings["mlp_activations"])
    known = network.T5Config.__dataclass_fields__
    config = network.T5Config(**{name: value for name, value in settings.items() if name in known})
    schedule: Any = optim.cosine(total_steps=STEPS)
    optimizer = optimizers.OptaxWrapper(optim.rms_scaled_adamw(schedule))
    no_vocabulary: Any = None  # the loss needs none
    model = models.EncoderDecoderModel(
        network.Transformer(config),
        no_vocabulary,
        no_vocabulary,
        optimizer,
        loss_normalizing_factor="NUM_REAL_TARGET_TOKENS",
    )
    checked = dict(np.load(folder / f"check_{packing}.npz"))
    loss = float(model.loss_fn(parameters, checked, None)[0])

    shapes: dict[str, Any] = {"encoder_input_tokens": (1, 1), "decoder_input_tokens": (1, 1)}
    variables = model.get_initial_variables(jax.random.PRNGKey(0), shapes)
    partitioner = PjitPartitioner(num_partitions=1)
    state = FlaxOptimTrainState.create(optimizer, {**variables, "params": parameters})
    axes = partitioner.get_mesh_axes(state)
    trainer = Trainer(
        model,
        state,
        partitioner,
        eval_names=[],
        summary_dir=None,
        train_state_axes=axes,
        rng=jax.random.PRNGKey(0),
        learning_rate_fn=schedule,
        num_microbatches=None,
    )
    features = dict(np.load(folder / f"{packing}.npz"))
    count = len(features["decoder_target_tokens"]) // rows
    batches = itertools.cycle(
        {name: values[number * rows : (number + 1) * rows] for name, values in features.items()}
        for number in range(count)
    )

    def step() -> tuple[int, int]:
        batch = next(batches)
        jax.block_until_ready((trainer.train_step(batch), trainer.train_state))
        return int(batch["decoder_segment_ids"].max(axis=1).sum()), int((batch["decoder_target_tokens"] > 0).sum())

    turns.serve(loss, step)


if __name__ == "__main__":
    main()
