"""Two processes on this machine, each with two CPU devices, train one model and write one checkpoint."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pair
import tiny_run

from t5x import checkpoints


def test_two_processes_of_slurm_continue_after_a_kill_and_stop_together(tmp_path):
    """SIGKILL of each, a checkpoint that one cannot read, SIGTERM to one."""
    run = tmp_path / "run"

    def start(second: Path = run) -> list:
        return pair.start(
            "t5x.train",
            lambda index: tiny_run.train_arguments(second if index else run, 1000),
            devices=2,
        )

    for victim, saved in ((1, 4), (0, 8)):
        processes = start()
        pair.until(lambda saved=saved: bool(checkpoints.checkpoint_steps(run)[-1:] >= [saved]), processes)
        processes[victim].kill()
        statuses, errors = pair.wait(processes, seconds=60)
        other = 1 - victim
        assert statuses[victim] == -9 and statuses[other] == 2, errors
        assert f"process {victim} of 2: killed, or its machine was lost\n  to fix it: start the same" in errors[other]
        assert not _dumps(errors[other]), errors[other]

    damaged = tmp_path / "damaged"
    shutil.copytree(run, damaged)
    newest = damaged / f"checkpoint_{checkpoints.checkpoint_steps(run)[-1]}"
    shutil.rmtree(newest / "state" / "d")
    statuses, errors = pair.wait(start(second=damaged))
    assert statuses == [2, 2], errors
    assert str(newest) in errors[0] and "process 1 of 2: " in errors[0], errors
    assert not any(map(_dumps, errors)), errors

    before = checkpoints.checkpoint_steps(run)[-1]
    processes = start()
    pair.until(lambda: tiny_run.rows(run)[-1]["step"] > before, processes)
    processes[1].terminate()
    statuses, errors = pair.wait(processes)
    assert statuses == [0, 0], errors
    step = checkpoints.checkpoint_steps(run)[-1]
    assert f"SIGTERM: saved checkpoint_{step} " in errors[0] and "SIGTERM" not in errors[1]
    saved = {file.name for file in (run / f"checkpoint_{step}" / "dataset").iterdir()}
    assert saved == {"checksums.sha256", "train_ds-000-of-002.json", "train_ds-001-of-002.json"}
    assert [at for at, _ in tiny_run.losses(run)] == list(range(1, step + 1))

    last, state = tiny_run.run(run, step + 2)
    assert last == step + 2 == int(state.step)
    position = json.loads((run / f"checkpoint_{last}" / "dataset" / "train_ds-000-of-001.json").read_text())
    assert position["batches"] == last
    rows = tiny_run.rows(run)
    assert len(rows) == last
    assert rows[-1]["loss_per_nonpadding_target_token"] < rows[0]["loss_per_nonpadding_target_token"]


def _dumps(errors: str) -> list[str]:
    """Lines that are not meant for a user: of Python, of C++."""
    marks = ("Traceback", "Check failure", "@     0x", "Gloo", "terminate called", "coordination_service", "grpc")
    return [line for line in errors.splitlines() if any(mark in line for mark in marks)]


def test_two_processes_continue_from_the_same_checkpoint_whichever_of_them_finds_damage(tmp_path):
    """Entries 2 to 4: process 0 compares checksums for both; a position that process 1 alone cannot read counts too."""
    tiny_run.run(tmp_path, 4, period=2)
    newest, older = tmp_path / "checkpoint_4", tmp_path / "checkpoint_2"
    for file in newest.rglob("checksums.sha256"):
        file.unlink()
    (newest / "_CHECKPOINT_METADATA").unlink()
    (newest / "commit_success.txt").write_text("checkpoint of step 4, complete\n")
    position = (newest / "dataset" / "train_ds-000-of-001.json").rename(newest / "dataset" / "train_ds-000-of-002.json")
    (newest / "dataset" / "train_ds-001-of-002.json").write_bytes(position.read_bytes()[:20])
    (older / "state" / "_METADATA").write_bytes(b"")
    previous = "--gin.train.on_corrupt_checkpoint='previous'"
    arguments = tiny_run.train_arguments(tmp_path, 4, previous)
    statuses, errors = pair.wait(pair.start("t5x.train", lambda index: arguments, devices=2))
    assert statuses == [0, 0], errors
    assert "not verified" in errors[0] and "not verified" not in errors[1]
    assert "continuing with checkpoint_0" in errors[0]
    assert checkpoints.checkpoint_steps(tmp_path) == [0, 4]
    assert {path.name for path in tmp_path.glob("*.corrupt")} == {"checkpoint_2.corrupt", "checkpoint_4.corrupt"}
