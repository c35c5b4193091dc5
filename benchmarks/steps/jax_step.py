"""A contender of training_step.py: the training step of the engine, of this checkout or of an earlier one.

    python benchmarks/steps/jax_step.py FOLDER PACKING ROWS CHECKOUT [--dtype bfloat16]

CHECKOUT is the one whose packages are on PYTHONPATH. Neither TensorFlow nor SeqIO is imported. The device is JAX's
default one; JAX_PLATFORMS chooses another.
"""

from __future__ import annotations

import argparse
import importlib
import itertools
import json
import sys
from pathlib import Path
from typing import Any

import jax
import numpy as np
import turns
from engine import trainer_of
from flax import traverse_util

from t5x import models, optimizers

STEPS = 200_000
PARTS = {"t5": ("Transformer", "T5Config"), "llama": ("LlamaTransformer", "LlamaConfig")}
"""Names of module and configuration by the ``network`` of config.json."""


def modules(checkout: Path, network: str) -> tuple[Any, Any]:
    """Module of the network and that of the optimizers.

    A commit such as 528859f has no base/; an installed fsa_jax of this checkout would be found under its names, too.
    """
    renamed = (checkout / "base").is_dir()
    names = (f"fsa_base.networks.{network}.network", "fsa_jax.training.optim")
    earlier = (f"fsa_jax.models.{network}.network", "fsa_jax.optim")
    found = [importlib.import_module(name) for name in (names if renamed else earlier)]
    for module in (models, *found):
        if checkout not in Path(str(module.__file__)).resolve().parents:
            sys.exit(f"{module.__name__} is not of {checkout}, but {module.__file__}")
    return found[0], found[1]


def main() -> None:
    """Trains whenever it is asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("packing", choices=("best_fit", "next_fit"))
    parser.add_argument("rows", type=int)
    parser.add_argument("checkout", type=Path)
    parser.add_argument("--dtype", default="float32", help="of the activations")
    options = parser.parse_args()
    folder, packing, rows = options.folder, options.packing, options.rows
    settings = json.loads((folder / "config.json").read_text()) | {"dtype": options.dtype}
    name = settings["network"]
    if "mlp_activations" in settings:
        settings["mlp_activations"] = tuple(settings["mlp_activations"])
    network, optim = modules(options.checkout, name)
    parts = [getattr(network, part) for part in PARTS[name]]
    known = parts[1].__dataclass_fields__
    module = parts[0](parts[1](**{name: value for name, value in settings.items() if name in known}))

    schedule: Any = optim.cosine(total_steps=STEPS)
    transformation = optim.rms_scaled_adamw(schedule) if name == "t5" else optim.adamw(schedule, weight_decay=0.0)
    optimizer = optimizers.OptaxWrapper(transformation)
    kind: Any = models.EncoderDecoderModel if name == "t5" else models.DecoderOnlyModel
    no_vocabularies = [None] * (2 if name == "t5" else 1)  # the loss needs none
    model = kind(module, *no_vocabularies, optimizer, loss_normalizing_factor="NUM_REAL_TARGET_TOKENS")
    parameters = traverse_util.unflatten_dict(dict(np.load(folder / "weights.npz")), sep="/")
    checked = dict(np.load(folder / f"check_{packing}.npz"))
    loss = float(model.loss_fn(parameters, checked, None)[0])

    features = dict(np.load(folder / f"{packing}.npz"))
    trainer = trainer_of(model, features, schedule, parameters)
    count = len(features["decoder_target_tokens"]) // rows
    batches = itertools.cycle(
        {name: values[number * rows : (number + 1) * rows] for name, values in features.items()}
        for number in range(count)
    )

    def step() -> tuple[int, int]:
        batch = next(batches)
        trainer.train_step(batch)
        return int(batch["decoder_segment_ids"].max(axis=1).sum()), int((batch["decoder_loss_weights"] > 0).sum())

    turns.serve(loss, step, lambda: jax.block_until_ready(trainer.train_state))


if __name__ == "__main__":
    main()
