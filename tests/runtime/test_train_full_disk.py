"""Training on a real disk that fills up or can no longer be written: clear errors, and nothing is lost."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import tiny_run

from t5x import checkpoints

STEPS = 16


def _run(model_dir: Path) -> tuple[int, str]:
    process = tiny_run.command("t5x.train", *tiny_run.train_arguments(model_dir, STEPS))
    errors = process.communicate(timeout=300)[1]
    return process.returncode, errors


def test_a_run_continues_after_a_full_disk(mount_disk: Callable[[str], Path], tmp_path: Path):
    disk = mount_disk("900k")
    run = disk / "run"
    status, errors = _run(run)
    assert status == 2 and "No space left on device" in errors and "to fix it: free space" in errors
    assert "Traceback" not in errors, errors
    steps = checkpoints.checkpoint_steps(run)
    assert steps and steps[-1] < STEPS
    (disk / "rest").write_bytes(bytes(_free(disk)))
    status, errors = _run(run)  # not a byte is left, not even for the configuration
    assert status == 2 and "No space left on device" in errors and "Traceback" not in errors, errors
    assert checkpoints.checkpoint_steps(run) == steps

    subprocess.run(["mount", "-o", "remount,size=32m", str(disk)], check=True)
    status, errors = _run(run)
    assert status == 0, errors
    assert _run(tmp_path / "reference")[0] == 0
    assert tiny_run.losses(run) == tiny_run.losses(tmp_path / "reference")


def test_a_read_only_disk_is_an_error(mount_disk: Callable[[str], Path], tmp_path: Path):
    disk = mount_disk("8m")
    (disk / "run").mkdir()
    subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
    status, errors = _run(disk / "run")
    assert status == 2 and "Read-only file system" in errors and "Traceback" not in errors, errors


def _free(disk: Path) -> int:
    status = os.statvfs(disk)
    return status.f_bavail * status.f_frsize
