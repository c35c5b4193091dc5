"""A contender of training_step.py: the training step of the engine, of this checkout or of an earlier one.

    python benchmarks/steps/jax_step.py FOLDER PACKING ROWS CHECKOUT [--dtype bfloat16] [--fields JSON]

CHECKOUT is the one whose packages are on PYTHONPATH. Neither TensorFlow nor SeqIO is imported. The device is JAX's
default one; JAX_PLATFORMS chooses another.
"""

from __future__ import annotations

import argparse
import importlib
import inspect
import itertools
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
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


def model_of(settings: Mapping[str, Any], network: ModuleType, optimizer: Any = None) -> Any:
    """The model with these fields and arguments. Unknown ones are ignored: earlier commits have fewer."""
    name = settings["network"]
    parts = [getattr(network, part) for part in PARTS[name]]
    known = parts[1].__dataclass_fields__
    given = {key: tuple(value) if isinstance(value, list) else value for key, value in settings.items() if key in known}
    module = parts[0](parts[1](**given))
    kind: Any = models.EncoderDecoderModel if name == "t5" else models.DecoderOnlyModel
    no_vocabularies = [None] * (2 if name == "t5" else 1)  # the loss needs none
    arguments = {key: settings[key] for key in settings.keys() & inspect.signature(kind).parameters.keys()}
    of_tokens = {"loss_normalizing_factor": "NUM_REAL_TARGET_TOKENS"}
    return kind(module, *no_vocabularies, optimizer, **of_tokens, **arguments)


class Training:
    """A training that goes on step by step.

    Args:
      folder: weights, configuration and tokens. Without weights the network draws its own.
      packing: file of packed rows.
      rows: rows of a step.
      checkout: the one whose packages are on PYTHONPATH.
      fields: fields of the network's configuration, and arguments of the model, instead of those in ``folder``.

    Attributes:
      loss: loss of the first examples before training, without dropout.
    """

    def __init__(self, folder: Path, packing: str, rows: int, checkout: Path, fields: Mapping[str, Any]) -> None:
        settings = json.loads((folder / "config.json").read_text()) | dict(fields)
        name = settings["network"]
        network, optim = modules(checkout, name)
        schedule: Any = optim.cosine(total_steps=STEPS)
        transformation = optim.rms_scaled_adamw(schedule) if name == "t5" else optim.adamw(schedule, weight_decay=0.0)
        optimizer = optimizers.OptaxWrapper(transformation)
        model = model_of(settings, network, optimizer)
        features = dict(np.load(folder / f"{packing}.npz"))
        if (folder / "weights.npz").exists():
            parameters = traverse_util.unflatten_dict(dict(np.load(folder / "weights.npz")), sep="/")
        else:  # They have no length, so that of the features may be any.
            shapes = dict.fromkeys(features, (1, 1))
            parameters = jax.jit(lambda: model.get_initial_variables(jax.random.PRNGKey(0), shapes)["params"])()
        checked = dict(np.load(folder / f"check_{packing}.npz"))
        self.loss = float(jax.jit(lambda *arguments: model.loss_fn(*arguments, None)[0])(parameters, checked))
        self._trainer = trainer_of(model, features, schedule, parameters)
        count = len(features["decoder_target_tokens"]) // rows
        self._batches = itertools.cycle(
            {name: values[number * rows : (number + 1) * rows] for name, values in features.items()}
            for number in range(count)
        )
        # As in t5x.train. Without it a second step compiles again, because the state has another layout than the first.
        shapes = {
            name: jax.ShapeDtypeStruct((rows, *values.shape[1:]), values.dtype) for name, values in features.items()
        }
        self._compiled = self._trainer.compile_train(shapes)

    def step(self) -> tuple[int, int]:
        """Starts a step; returns its numbers of examples and of real target tokens."""
        batch = next(self._batches)
        self._trainer.train_step(batch)
        return int(batch["decoder_segment_ids"].max(axis=1).sum()), int((batch["decoder_loss_weights"] > 0).sum())

    def wait(self) -> None:
        """Waits until all steps have ended."""
        jax.block_until_ready(self._trainer.train_state)

    def program(self) -> str:
        """The compiled step, as text."""
        return self._compiled[1].as_text() or ""


def peak_bytes() -> int | None:
    """Most memory that was in use on the device at once; None if the device does not say."""
    return (jax.local_devices()[0].memory_stats() or {}).get("peak_bytes_in_use")


def main() -> None:
    """Trains whenever it is asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("packing", choices=("best_fit", "next_fit"))
    parser.add_argument("rows", type=int)
    parser.add_argument("checkout", type=Path)
    parser.add_argument("--dtype", default="float32", help="of the activations")
    parser.add_argument("--fields", type=json.loads, default={}, help="JSON: as of Training")
    options = parser.parse_args()
    fields = {"dtype": options.dtype, **options.fields}
    training = Training(options.folder, options.packing, options.rows, options.checkout, fields)
    turns.serve(training.loss, training.step, training.wait, peak_bytes)


if __name__ == "__main__":
    main()
