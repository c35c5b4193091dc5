"""Every run file of gin/ and of the contract trains, evaluates or infers, with the losses that upstream T5X had."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("fsa_jax", reason="runs the gin files of fsa_jax")

from fsa_jax.training.recipes import SIZES

ROOT = Path(__file__).parents[2]
GOLDENS = ROOT / "tests" / "testdata" / "conformance" / "project_files.json"


def test_every_run_file_runs_with_upstreams_losses(tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    environment = os.environ | {"XLA_FLAGS": "", "JAX_PLATFORMS": "cpu"}
    command = [sys.executable, "-m", "tests.runtime.conformance.project_files", str(tmp_path / "world"), str(out)]
    run = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr[-4000:]
    found = json.loads((out / "results.json").read_text())
    expected = json.loads(GOLDENS.read_text())
    # The other sizes of a recipe have the same settings, which tests/training/test_recipes.py compares.
    sizes = {f"{stage}_{size}" for stage in ("distill", "finetune") for size in SIZES if size != "base"}
    assert found.keys() == expected.keys() >= {path.stem for path in (ROOT / "gin").glob("*.gin")} - sizes
    for name, losses in expected.items():
        assert list(found[name]) == list(losses), name
        np.testing.assert_allclose(list(found[name].values()), list(losses.values()), rtol=1e-4, err_msg=name)
