"""The benchmark of the training step runs: all contenders find the same loss, and the table has all of them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import data_directory

ROOT = Path(__file__).parents[2]
# In place of an earlier commit, this one: its rows are packed by SeqIO.
T5 = ("--before", str(ROOT), "--tuned_batch_sizes", "4", "--shapes", "2", "--accumulate", "2")
DECODER = ("--model", "decoder")


@pytest.mark.parametrize(
    ("options", "contenders"),
    [
        (T5, ["ours", f"before ({ROOT.name})", "transformers 2", "tuned 4"]),
        (DECODER, ["ours", "transformers 2"]),
    ],
    ids=["t5", "decoder"],
)
def test_the_training_step_is_compared_with_pytorch(options, contenders, tmp_path):
    data = data_directory()
    if not (data / "teacher").is_dir() or not (data / "t5_vocab" / "spiece.model").is_file():
        pytest.skip("needs the released teacher text and T5's vocabulary")
    results = tmp_path / "results.md"
    results.write_text("# Results\n")
    command = [sys.executable, "-m", "benchmarks", "training_step", "--size", "tiny", "--rounds", "1", "--seconds", "0"]
    command += [*options, "--peer_batch_sizes", "2", "--rows", "2", "--results", str(results)]
    environment = os.environ | {
        "FSA_VOCAB": str(data / "t5_vocab" / "spiece.model"),
        "FSA_DATA_DIR": str(data),
        "XLA_FLAGS": "",
        # Compiling a shape takes PyTorch a minute on a CPU. What is computed stays the same.
        "TORCHDYNAMO_DISABLE": "1",
    }
    run = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr[-3000:]
    assert results.read_text() == f"# Results\n\n{run.stdout[:-1]}"
    table = [line.split(" | ") for line in run.stdout.splitlines() if line.startswith("|")]
    assert [line[0] for line in table] == ["| contender", "| ---", *(f"| {name}" for name in contenders)]
    ratios = [cell for cell in table[0] if "ratio to transformers 2" in cell or "ratio to tuned 4" in cell]
    assert len(ratios) == 2 * ("tuned 4" in contenders) + 2
    assert "losses before training agree" in run.stdout
