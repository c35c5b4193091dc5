"""Our engine and model against what upstream T5X did (tests/testdata/conformance/README.md): bits, losses, decodes.

One process runs all of ours, on one device as upstream did.
"""

from __future__ import annotations

import importlib.util
import json
import os
import re
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

ROOT = Path(__file__).parents[2]
GOLDENS = ROOT / "tests" / "testdata" / "conformance"
HAS_PROJECT = importlib.util.find_spec("fsa_jax") is not None
needs_project = pytest.mark.skipif(not HAS_PROJECT, reason="reads gin files or an optimizer of fsa_jax")
CURVES = ["adafactor_packed", "adafactor_unpacked", "adamw_packed", "adamw_unpacked"]
RECIPE = "recipe_packed"
"""The curve of the project's own optimizer."""
CHECKPOINTS = {"fresh": "checkpoint_40", "resumed": "checkpoint_44", "legacy": "checkpoint_40"}
"""By run: the checkpoint of upstream's that it goes on from."""


@pytest.fixture(scope="module")
def upstream() -> dict[str, Any]:
    return json.loads((GOLDENS / "results.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def ours(tmp_path_factory) -> dict[str, Any]:
    out = tmp_path_factory.mktemp("conformance")
    for run, checkpoint in CHECKPOINTS.items():
        with tarfile.open(GOLDENS / f"{run}_{checkpoint}.tar.xz") as archive:
            archive.extractall(out / run, filter="data")
    environment = os.environ | {"XLA_FLAGS": "", "JAX_PLATFORMS": "cpu"}
    command = [sys.executable, "-m", "tests.runtime.conformance.engine_runs", str(out)]
    runs = ["decode", "parse", *CURVES, *([RECIPE] if HAS_PROJECT else []), *CHECKPOINTS]
    result = subprocess.run(command + runs, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr[-4000:]
    return json.loads((out / "results.json").read_text(encoding="utf-8"))


def losses(results: dict[str, Any], run: str) -> dict[int, float]:
    return {int(step): loss for step, loss in results[run]["loss"].items()}


def test_an_initial_checkpoint_equals_that_of_upstream_bit_for_bit(ours, upstream):
    for run in ("adafactor_packed", "adamw_packed"):
        assert ours[run]["checkpoint_0"] == upstream[run]["checkpoint_0"]
    targets = [name for name in ours["adafactor_packed"]["checkpoint_0"] if name.startswith("target/")]
    assert len(targets) == 52


@pytest.mark.parametrize("run", [*CURVES, pytest.param(RECIPE, marks=needs_project)])
def test_losses_equal_those_of_upstream(ours, upstream, run):
    expected, found = losses(upstream, run), losses(ours, run)
    assert list(found) == list(expected) == list(range(1, 51))
    assert found[1] == pytest.approx(expected[1], rel=1e-6)
    np.testing.assert_allclose(list(found.values()), list(expected.values()), rtol=1e-4)
    assert np.mean(list(found.values())[-5:]) < 0.95 * np.mean(list(found.values())[:5])


@pytest.mark.parametrize("run", list(CHECKPOINTS))
def test_training_continues_from_a_checkpoint_of_upstream(ours, upstream, run):
    first = int(CHECKPOINTS[run].removeprefix("checkpoint_"))
    expected = losses(upstream, "legacy" if run == "legacy" else "fresh")
    found = losses(ours, run)
    assert list(found) == list(range(first + 1, first + 5))
    np.testing.assert_allclose(list(found.values()), [expected[step] for step in found], rtol=1e-5)


@pytest.mark.parametrize("model", ["", "causal_lm/", "prefix_lm/"])
@pytest.mark.parametrize("way", ["beam_4", "beam_2_alpha_0", "greedy", "sampled", "top_5", "nucleus"])
def test_decodes_equal_those_of_upstream(ours, upstream, model, way):
    found, expected = ours["decode"][model + way], upstream["decode"][model + way]
    for row in range(6):
        assert found["ids"][row] == expected["ids"][row]
        np.testing.assert_allclose(found["scores"][row], expected["scores"][row], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("model", ["", "causal_lm/", "prefix_lm/"])
def test_scores_equal_those_of_upstream(ours, upstream, model):
    name = f"{model}score_batch"
    np.testing.assert_allclose(ours["decode"][name], upstream["decode"][name], rtol=1e-5)


@needs_project
def test_every_gin_file_of_the_project_parses(ours):
    files = {path.relative_to(ROOT).as_posix() for path in (ROOT / "gin").rglob("*.gin")}
    assert len(files) > 5 and files <= set(ours["parse"])


def test_run_and_model_files_have_the_bindings_of_upstream(ours, upstream):
    """Ours may set more, and name as a macro what upstream's gives as a value."""
    assert len(upstream["parse"]) == 20
    for path, expected in upstream["parse"].items():
        found = without_macros(ours["parse"][path])
        for name, value in without_macros(expected).items():
            # model_parallel_submesh is deprecated; None takes the default of False.
            if not name.endswith((".model_parallel_submesh", ".use_custom_packing_ops")):
                assert found[name] == value, (path, name)


def without_macros(bindings: list[str]) -> dict[str, str]:
    """Values by name, with macros replaced; gin numbers modules of one name in a process: network2."""
    values = dict(re.sub(r"\bnetwork\d+\.", "network.", line).split(" = ", 1) for line in bindings)
    return {name: values.get(value.removeprefix("%"), value) for name, value in values.items()}
