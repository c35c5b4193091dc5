"""Fixtures of the tests of the teacher: a test server in its own process, and requests to it."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from server_process import ServerProcess
from stored_rows import MODEL

from fsa_jax.teacher.generation_requests import RequestMaker, SamplingSettings, Teacher, load_prompt

SERVER = Path(__file__).parents[2] / "benchmarks" / "teacher_server.py"


@pytest.fixture
def serve() -> Iterator[Callable[..., ServerProcess]]:
    """Starts test servers with the given options; ends them after the test."""
    processes: list[subprocess.Popen[str]] = []

    def start(*options: str) -> ServerProcess:
        process = subprocess.Popen([sys.executable, str(SERVER), *options], stdout=subprocess.PIPE, text=True)
        processes.append(process)
        assert process.stdout is not None
        return ServerProcess(process.stdout.readline().strip())

    yield start
    for process in processes:
        process.kill()
        process.wait()


@pytest.fixture
def maker() -> RequestMaker:
    return RequestMaker(Teacher(MODEL, None, SamplingSettings()), [load_prompt("analysis")])
