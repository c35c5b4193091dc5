"""The short version of benchmarks/train_kills.py: SIGKILL at random moments, and the same parameters in the end."""

import subprocess
import sys
from pathlib import Path

BENCHMARK = Path(__file__).parents[2] / "benchmarks" / "train_kills.py"


def test_random_kills_change_nothing(tmp_path):
    command = [sys.executable, str(BENCHMARK), "--directory", str(tmp_path / "run"), "--kills=2", "--steps=60"]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stdout + run.stderr[-3000:]
    assert "losses of 60 steps and all leaves at the end are bit-equal" in run.stdout
