"""The import rules of docs/architecture.md, checked in new interpreters."""

from __future__ import annotations

import json
import pkgutil
import subprocess
import sys

import fsa_jax

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
