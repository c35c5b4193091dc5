"""Two processes of one run on this machine, started as Slurm's ``srun -n 2`` would."""

from __future__ import annotations

import socket
import subprocess
import time
from collections.abc import Callable, Sequence

import tiny_run


def free_port() -> int:
    """Returns a free port of this machine."""
    with socket.socket() as server:
        server.bind(("localhost", 0))
        return server.getsockname()[1]


def slurm(index: int, count: int, port: int) -> dict[str, str]:
    """The variables of a Slurm step that JAX reads."""
    return {
        "SLURM_JOB_ID": "4711",
        "SLURM_STEP_NODELIST": "localhost",
        "SLURM_NTASKS": str(count),
        "SLURM_PROCID": str(index),
        "SLURM_LOCALID": str(index),
        "JAX_COORDINATOR_PORT": str(port),
    }


def start(module: str, arguments: Callable[[int], Sequence[str]], devices: int = 1) -> list[subprocess.Popen]:
    """Starts ``python -m <module> <arguments(index)>`` as the processes 0 and 1 of a run."""
    port = free_port()
    return [
        tiny_run.command(module, *arguments(index), devices=devices, variables=slurm(index, 2, port))
        for index in (0, 1)
    ]


def wait(processes: Sequence[subprocess.Popen], seconds: float = 600) -> tuple[list[int], list[str]]:
    """Waits for all of them; returns exit statuses and standard errors."""
    try:
        errors = [process.communicate(timeout=seconds)[1] for process in processes]
    finally:
        for process in processes:
            process.kill()
    return [process.returncode for process in processes], errors


def until(condition: Callable[[], bool], processes: Sequence[subprocess.Popen]) -> None:
    """Waits until ``condition`` holds while all processes run."""
    while not condition():
        assert all(process.poll() is None for process in processes), wait(processes)
        time.sleep(0.1)
