"""The short version of benchmarks/train_kills.py: SIGKILL at random moments, and the same parameters in the end.

Chosen moments are killed at in test_resume.py, in CI.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARK = Path(__file__).parents[2] / "benchmarks" / "train_kills.py"


@pytest.mark.skipif(os.environ.get("FAULTS") != "long", reason="whole runs: make faults")
def test_random_kills_change_nothing(tmp_path):
    command = [sys.executable, str(BENCHMARK), "--directory", str(tmp_path / "run"), "--kills=5", "--steps=120"]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stdout + run.stderr[-3000:]
    assert "losses of 120 steps and all leaves at the end are bit-equal" in run.stdout
