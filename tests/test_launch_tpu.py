"""launch_tpu.sh: the commands it would run and the arguments it refuses. Nothing is executed without --run."""

from __future__ import annotations

import shlex
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
GIN = "gin/distill_base.gin"
COMPLETE = ["--tpu", "pod", "--zone", "z", "--gin", GIN, "--model-dir", "gs://b/r", "--repository", "https://h/r.git"]


def _launch(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([str(ROOT / "launch_tpu.sh"), *arguments], capture_output=True, text=True, check=False)


def test_dry_run_prints_the_commands_for_every_worker():
    run = _launch(*COMPLETE, "--", "--gin.TRAIN_STEPS=10")
    assert run.returncode == 0, run.stderr
    setup, start = (shlex.split(line) for line in run.stdout.splitlines())
    assert setup[:7] == ["gcloud", "compute", "tpus", "tpu-vm", "ssh", "pod", "--zone"]
    assert "--worker=all" in setup
    # The worker runs one shell command, which must be valid there.
    for remote in (setup[-1], start[-1]):
        subprocess.run(["bash", "-n", "-c", remote], check=True)
    words = shlex.split(start[-1])
    assert words[words.index("exec") :] == [
        *["exec", "python", "-m", "t5x.train", f"--gin_file={GIN}", "--gin.MODEL_DIR='gs://b/r'"],
        "--gin.TRAIN_STEPS=10",
    ]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--tpu", "pod"], "--zone is missing"),
        ([*COMPLETE, "--gin", "gin/none.gin"], "expected a file"),
        ([*COMPLETE, "--model-dir", "/local"], "expected a gs:// path"),
        ([*COMPLETE, "--color", "red"], "unknown option --color"),
        ([*COMPLETE, "--revision"], "expected a value"),
    ],
)
def test_refusals_name_the_option(arguments, said):
    run = _launch(*arguments)
    assert run.returncode == 2
    assert said in run.stderr
