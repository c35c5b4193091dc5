"""Ctrl-C at any time, and --help."""

from __future__ import annotations

import signal
import subprocess
import time
from pathlib import Path

import pair
import tiny_run

from t5x import checkpoints


def test_every_command_describes_itself():
    """``t5x.train --help`` was an unknown flag."""
    commands = {
        "t5x.train": "continues from the newest checkpoint",
        "t5x.eval": "--gin.CHECKPOINT_PATH=",
        "t5x.infer": "--shard_id=VALUE",
        "t5x.main": "--run_mode=train|eval|infer|precompile",
    }
    processes = {name: tiny_run.command(name, "--help", stdout=subprocess.PIPE) for name in commands}
    for name, expected in commands.items():
        output, errors = processes[name].communicate(timeout=500)
        assert processes[name].returncode == 0 and not errors, errors
        for word in (
            expected,
            f"python -m {name} --",
            "--gin_file",
            "--coordinator_address",
            "MODEL_DIR=\"'runs/base'\"",
        ):
            assert word in output, output
        assert len(output.splitlines()) < 80


def test_ctrl_c_in_a_training_saves_and_a_second_one_stops_immediately(tmp_path):
    run = tmp_path / "run"
    process = tiny_run.command("t5x.train", *tiny_run.train_arguments(run, 1000))
    metrics = run / "train" / "metrics.jsonl"
    pair.until(lambda: metrics.exists() and len(tiny_run.rows(run)) > 5, [process])
    process.send_signal(signal.SIGINT)
    (status,), (errors,) = pair.wait([process])
    step = checkpoints.checkpoint_steps(run)[-1]
    assert status == 130 and "Traceback" not in errors, errors
    assert f"Ctrl-C: saved checkpoint_{step} with its position in the data; the same command continues with" in errors
    assert [at for at, _ in tiny_run.losses(run)] == list(range(1, step + 1))

    process = tiny_run.command("t5x.train", *tiny_run.train_arguments(run, 1000))
    pair.until(lambda: tiny_run.rows(run)[-1]["step"] > step, [process])
    while process.poll() is None:
        process.send_signal(signal.SIGINT)
        time.sleep(0.01)
    (status,), (errors,) = pair.wait([process])
    assert status == 130 and "Traceback" not in errors, errors
    assert "stopped immediately" in errors or "Ctrl-C: saved" in errors


def test_ctrl_c_before_the_first_step_ends_without_a_traceback(tmp_path):
    """While libraries load, and while the step is compiled (nothing is cached)."""
    loading = tiny_run.command("t5x.train", *tiny_run.train_arguments(tmp_path / "a", 1000))
    compiling = tiny_run.command(
        "t5x.train", *tiny_run.train_arguments(tmp_path / "b", 1000, f"--compilation_cache={tmp_path / 'cache'}")
    )
    pair.until(lambda: "jaxlib" in Path(f"/proc/{loading.pid}/maps").read_text(), [loading])
    loading.send_signal(signal.SIGINT)
    pair.until((tmp_path / "b" / "model-info.txt").exists, [compiling])
    compiling.send_signal(signal.SIGINT)
    statuses, errors = pair.wait([loading, compiling])
    assert statuses[0] in (130, -signal.SIGINT) and statuses[1] == 130, errors
    assert "Traceback" not in errors[0] + errors[1], errors
