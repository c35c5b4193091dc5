"""The GPU kit runs whole, at small size, on this CPU, in an interpreter that lacks what the GPU machine lacks."""

from __future__ import annotations

import dataclasses
import inspect
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from benchmarks.kit import rows
from benchmarks.kit.run import SLICES
from benchmarks.steps.variants import PLAIN, SWITCHES
from fsa_base.networks.llama.config import LlamaConfig
from fsa_base.networks.t5.network import T5Config
from t5x.models import DecoderOnlyModel
from tests.conftest import data_directory

ROOT = Path(__file__).parents[2]
LACKING = ("tensorflow", "seqio", "clu", "jaxtyping", "wadler_lindig", "wrapt", "filelock", "gin")
"""The wheels of the kit have those of them that it needs."""

# Packages come from a folder that stands for site-packages, not from an installed checkout.
_SITE = """
import sys

others = ("site-packages", "__editable__")
given = [entry for entry in sys.path if not any(part in entry for part in others)]
sys.path[:] = [*given, {packages!r}]
"""


@pytest.fixture(scope="module")
def kit(tmp_path_factory) -> Path:
    """The packed kit."""
    data = data_directory()
    if not (data / "teacher").is_dir() or not (data / "t5_vocab" / "spiece.model").is_file():
        pytest.skip("needs the released teacher text and T5's vocabulary")
    folder = tmp_path_factory.mktemp("packed") / "kit"
    environment = os.environ | {"FSA_DATA_DIR": str(data), "FSA_VOCAB": str(data / "t5_vocab" / "spiece.model")}
    command = [sys.executable, "-m", "benchmarks", "gpu_kit", "--out", str(folder)]
    run = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr[-3000:]
    return folder


@pytest.fixture(scope="module")
def bare(tmp_path_factory) -> dict[str, str]:
    """The environment of an interpreter without the packages of LACKING."""
    folder = tmp_path_factory.mktemp("bare")
    packages = folder / "packages"
    packages.mkdir()
    for entry in (entry for folder in sys.path if "site-packages" in folder for entry in Path(folder).iterdir()):
        link = packages / entry.name
        if not entry.name.startswith(LACKING) and entry.suffix != ".pth" and not link.is_symlink():
            link.symlink_to(entry)
    (folder / "sitecustomize.py").write_text(_SITE.format(packages=str(packages)))
    python = {"PYTHON": sys.executable, "PYTHONPATH": str(folder)}
    # Most of the time of so small models is compilation; and four contenders share the cores.
    quick = {"JAX_DISABLE_MOST_OPTIMIZATIONS": "1", "OMP_NUM_THREADS": "1"}
    return os.environ | python | quick | {"XLA_FLAGS": "", "JAX_PLATFORMS": "cpu"}


def measured(kit: Path, out: Path, environment: dict[str, str], *options: str) -> list[dict[str, Any]]:
    """The rows of a run at small size."""
    command = ["sh", str(kit / "run.sh"), "--out", str(out), "--size", "tiny", *options]
    run = subprocess.run(command, cwd=out.parent, env=environment, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr[-3000:]
    return rows.read(out)


def test_the_whole_kit_runs_where_tensorflow_and_seqio_are_missing(kit, bare, tmp_path):
    command = [sys.executable, "-c", "import seqio"]
    lacking = subprocess.run(command, env=bare, capture_output=True, text=True, check=False)
    assert "No module named 'seqio'" in lacking.stderr
    assert sum(file.stat().st_size for file in kit.rglob("*") if file.is_file()) < 50e6

    found = measured(kit, tmp_path / "out", bare)

    assert [row for row in found if "error" in row or "skipped" in row or row.get("ok") is False] == []
    assert {row["slice"] for row in found} == set(SLICES)
    files = list((tmp_path / "out").iterdir())
    assert len(files) <= 6
    assert all(file.is_file() and file.stat().st_size < 16 * 2**20 for file in files)
    step = {row["part"]: row for row in found if row["slice"] == "step"}
    assert [name.split(",")[0] for name in step] == ["ours", "ours with all switches", "transformers", "PyTorch tuned"]
    losses = [row["loss"] for row in step.values()]
    assert max(losses) / min(losses) < 1.01
    assert all(row["real_tflops"] > 0 for row in step.values())
    (profile,) = (row for row in found if row["slice"] == "kernels")
    assert len(profile["top"]) == 10
    assert any("decoder" in kernel["place"] for kernel in profile["top"])
    text = (tmp_path / "out" / "results.md").read_text()
    assert [line[4:] for line in text.splitlines() if line.startswith("### ")] == list(SLICES)


def test_a_slice_that_fails_does_not_stop_the_others(kit, bare, tmp_path):
    broken = tmp_path / "kit"
    shutil.copytree(kit, broken)
    (broken / "tokens" / "208_640" / "best_fit.npz").unlink()
    found = measured(broken, tmp_path / "out", bare, "--slices", "correctness,environment")
    failed, *others = found
    assert failed["slice"] == "correctness"
    assert "No such file or directory" in failed["error"]
    assert [row["part"] for row in others] == ["machine", "peak", "bandwidth"]


def test_slices_for_which_no_time_is_left_are_named(kit, bare, tmp_path):
    found = measured(kit, tmp_path / "out", bare, "--slices", "environment,step", "--seconds", "0")
    left_out = [(row["slice"], row["skipped"]) for row in found]
    assert left_out == [("environment", "no time left"), ("step", "no time left")]


def test_every_switch_is_known_to_a_network_or_its_model():
    known = {field.name for config in (T5Config, LlamaConfig) for field in dataclasses.fields(config)}
    known |= inspect.signature(DecoderOnlyModel).parameters.keys()
    assert {field for fields in (PLAIN, *SWITCHES.values()) for field in fields} <= known


def test_all_slices_together_take_25_minutes_at_most():
    assert sum(seconds for _, seconds in SLICES.values()) <= 25 * 60
    assert max(seconds for _, seconds in SLICES.values()) <= 8 * 60
