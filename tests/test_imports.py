"""The import rules of docs/architecture.md, checked in new interpreters."""

from __future__ import annotations

import json
import os
import pkgutil
import subprocess
import sys
from pathlib import Path

import fsa_jax

ROOT = Path(__file__).parents[1]
HEAVY = ("jax", "tensorflow", "seqio")
FREE_OF_ALL = ("fsa_jax.text", "fsa_jax.reviews", "fsa_jax.teacher", "fsa_jax.synthetic", "fsa_jax.evaluation")
FREE_OF_TENSORFLOW = ("fsa_base", "fsa_jax.training.optim", "t5x.trainer", "t5x.models", "t5x.partitioning")

_PROBE = """
import importlib, json, pkgutil, sys
names = sys.argv[1:]
for name in names:
    module = importlib.import_module(name)
    for found in pkgutil.walk_packages(getattr(module, "__path__", []), name + "."):
        importlib.import_module(found.name)
print(json.dumps([heavy for heavy in ("jax", "tensorflow", "seqio") if heavy in sys.modules]))
"""


def _loaded(*modules: str) -> list[str]:
    """The packages of HEAVY that are loaded after importing ``modules`` and all their submodules."""
    run = subprocess.run([sys.executable, "-c", _PROBE, *modules], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    return json.loads(run.stdout.splitlines()[-1])


def test_pure_python_stages_import_neither_jax_nor_tensorflow():
    # vllm_sidecar runs in its own environment; importing it must not need vllm.
    assert _loaded("fsa_jax.common.records", "fsa_base.errors", *FREE_OF_ALL) == []


def test_networks_and_trainer_import_no_tensorflow():
    assert _loaded(*FREE_OF_TENSORFLOW) == ["jax"]


_WITHOUT_TENSORFLOW = """
import importlib, importlib.abc, pkgutil, sys

class Hide(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        hidden = ("apache_beam", "seqio", "tensorflow", "tensorflow_datasets", "tensorflow_text")
        if name.split(".")[0] in hidden:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Hide())
for name in ("fsa_base", "fsa_jax.serving", "fsa_jax.weights", "t5x.models", "t5x.decoding", "t5x.checkpointing"):
    module = importlib.import_module(name)
    for found in pkgutil.walk_packages(getattr(module, "__path__", []), name + "."):
        importlib.import_module(found.name)

from fsa_jax.serving import Predictor
from fsa_jax.training import optim
from t5x import optimizers
from t5x.partitioning import PjitPartitioner
from tiny_network import tiny_batch, tiny_model, tiny_trainer

optimizer = optimizers.OptaxWrapper(optim.rms_scaled_adamw(learning_rate=1e-2))
trainer = tiny_trainer(tiny_model(optimizer), PjitPartitioner(num_partitions=1), tiny_batch())
losses = [float(trainer.train_step(tiny_batch())["loss"].total) for _ in range(5)]
assert losses[-1] < losses[0], losses
print(len(list(Predictor(sys.argv[1], task="atsa").predict(["The tea was great."]))), "prediction")
"""


def test_models_training_step_and_serving_work_without_tensorflow_and_seqio(tmp_path):
    """As on a GPU machine that has JAX and Flax but neither of the two."""
    archive = ROOT / "tests" / "testdata" / "v528859f" / "hf.tar.xz"
    subprocess.run(["tar", "xf", str(archive), "-C", str(tmp_path)], check=True)
    command = [sys.executable, "-c", _WITHOUT_TENSORFLOW, str(tmp_path / "hf")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT / "tests" / "runtime"), *sys.path])}
    run = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    assert run.stdout.splitlines()[-1] == "1 prediction"


def test_importing_the_package_and_the_command_line_imports_nothing_heavy():
    modules = ["fsa_jax"] + [f"fsa_jax.cli.{module.name}" for module in pkgutil.iter_modules(_cli_path())]
    code = f"import {', '.join(modules)}, sys; print([m for m in {HEAVY!r} if m in sys.modules])"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"


def _cli_path() -> list[str]:
    import fsa_jax.cli

    return list(fsa_jax.cli.__path__)


def test_version_is_the_distribution_s():
    from importlib import metadata

    assert metadata.version("fsa-jax") == fsa_jax.__version__
