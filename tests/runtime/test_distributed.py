"""Two processes on this machine, each with two CPU devices, train one model and write one checkpoint."""

from __future__ import annotations

import json
import socket
import time

import tiny_run
from t5x import checkpoints


def _free_port() -> int:
    with socket.socket() as server:
        server.bind(("localhost", 0))
        return server.getsockname()[1]


def test_two_processes_train_one_model_that_one_process_goes_on_with(tmp_path):
    address = f"localhost:{_free_port()}"
    processes = [
        tiny_run.command(
            "t5x.train",
            *tiny_run.train_arguments(tmp_path, 1000, "--multiprocess_gpu", "--process_count=2"),
            f"--coordinator_address={address}",
            f"--process_index={index}",
            devices=2,
        )
        for index in (0, 1)
    ]
    metrics = tmp_path / "train" / "metrics.jsonl"
    while not (metrics.exists() and len(metrics.read_text().splitlines()) >= 3):
        assert all(process.poll() is None for process in processes), [process.communicate() for process in processes]
        time.sleep(0.1)
    for process in processes:
        process.terminate()
    errors = [process.communicate(timeout=600)[1] for process in processes]
    assert [process.returncode for process in processes] == [0, 0], errors
    step = checkpoints.checkpoint_steps(tmp_path)[-1]
    assert f"SIGTERM: saved checkpoint_{step} " in errors[0] and "SIGTERM" not in errors[1]
    saved = {file.name for file in (tmp_path / f"checkpoint_{step}" / "dataset").iterdir()}
    assert saved == {"train_ds-000-of-002.json", "train_ds-001-of-002.json"}
    assert [at for at, _ in tiny_run.losses(tmp_path)] == list(range(1, step + 1))

    last, state = tiny_run.run(tmp_path, step + 2)
    assert last == step + 2 == int(state.step)
    position = json.loads((tmp_path / f"checkpoint_{last}" / "dataset" / "train_ds-000-of-001.json").read_text())
    assert position["batches"] == last
    rows = tiny_run.rows(tmp_path)
    assert len(rows) == last
    assert rows[-1]["loss_per_nonpadding_target_token"] < rows[0]["loss_per_nonpadding_target_token"]
