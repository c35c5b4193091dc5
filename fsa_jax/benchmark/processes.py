"""Runs training commands as child processes: in parallel on the machine's cores, with progress and a clean stop."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fsa_base.runs import read_rows
from fsa_jax.common.shell_words import typed

_PR_SET_PDEATHSIG = 1
_POLL_SECONDS = 0.2
_PATIENCE_SECONDS = 30.0


class CommandFailed(RuntimeError):
    """A command ended with an error; its output was shown."""


@dataclass(frozen=True)
class Command:
    """A command with its environment, working directory and log file (None: output goes to the terminal)."""

    words: tuple[str, ...]
    environment: Mapping[str, str]
    directory: Path
    log: Path | None = None

    def __str__(self) -> str:
        """The command as a user would type it; strings for gin have their own quotes inside those of the shell."""
        return typed(("python", *self.words[1:]))


@dataclass
class Running:
    """A running command."""

    command: Command
    process: subprocess.Popen[bytes]
    cores: frozenset[int]
    began: float


class Pool:
    """Runs commands, at most ``workers`` at a time, each on its own share of the cores.

    A step of a small model is hardly faster on two cores, so two parallel trainings take little more time than one.

    Args:
      workers: number of parallel commands; None for one per core, at most four.
      keep_open: file descriptor that the commands inherit.
    """

    def __init__(self, workers: int | None = None, keep_open: int | None = None) -> None:
        cores = sorted(os.sched_getaffinity(0))
        count = min(workers or 4, len(cores))
        self._shares = [frozenset(cores[index::count]) for index in range(count)]
        self._keep_open = () if keep_open is None else (keep_open,)

    @property
    def workers(self) -> int:
        return len(self._shares)

    def run(
        self,
        commands: Sequence[Command],
        watch: Callable[[], None] = lambda: None,
        done: Callable[[int, float], None] = lambda index, seconds: None,
        failed: Callable[[int, CommandFailed], None] | None = None,
    ) -> None:
        """Runs all commands to the end.

        Args:
          commands: commands, in the order in which they start.
          watch: function that is called several times per second.
          done: function that is called with the index and the seconds of a command that ended without an error.
          failed: function that is called with the index of a command that ended with an error, and the others go on.

        Raises:
          CommandFailed: a command ended with an error, without ``failed``; the others were stopped.
        """
        waiting = list(enumerate(commands))
        running: dict[int, Running] = {}
        free = list(self._shares) if len(commands) > 1 else [frozenset[int]().union(*self._shares)]
        try:
            while waiting or running:
                while waiting and free:
                    index, command = waiting.pop(0)
                    with _interrupt_deferred():
                        running[index] = self._start(command, free.pop(0))
                for index, child in list(running.items()):
                    status = child.process.poll()
                    if status is None:
                        continue
                    del running[index]
                    free.append(child.cores)
                    if status:
                        error = CommandFailed(_failure(child.command, status))
                        if failed is None:
                            raise error
                        failed(index, error)
                        continue
                    done(index, time.monotonic() - child.began)
                watch()
                time.sleep(_POLL_SECONDS)
        finally:
            _stop([child.process for child in running.values()])

    def _start(self, command: Command, cores: frozenset[int]) -> Running:
        def prepare() -> None:
            # The child gets SIGTERM when the demo dies, even if that is killed. A training then saves its state.
            if sys.platform == "linux":
                ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
            os.sched_setaffinity(0, cores)

        output = None
        if command.log is not None:
            command.log.parent.mkdir(parents=True, exist_ok=True)
            output = command.log.open("wb")
        try:
            process = subprocess.Popen(
                command.words,
                env=dict(command.environment),
                cwd=command.directory,
                stdout=output,
                stderr=subprocess.STDOUT if output else None,
                stdin=subprocess.DEVNULL,
                pass_fds=self._keep_open,
                preexec_fn=prepare,
                # In a new session, Ctrl-C reaches only the demo, which then stops its commands in an orderly way.
                start_new_session=True,
            )
        finally:
            if output is not None:
                output.close()
        return Running(command, process, cores, time.monotonic())


@contextlib.contextmanager
def _interrupt_deferred() -> Iterator[None]:
    """Defers Ctrl-C to the end of the context; otherwise a process that was started but not recorded would be lost."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    received: list[Any] = []
    before = signal.signal(signal.SIGINT, lambda *arguments: received.append(arguments))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
        if received and callable(before):
            before(*received[0])


def _stop(processes: Sequence[subprocess.Popen[bytes]]) -> None:
    for process in processes:
        process.terminate()
    deadline = time.monotonic() + _PATIENCE_SECONDS
    for process in processes:
        try:
            process.wait(max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _failure(command: Command, status: int) -> str:
    output = ""
    if command.log is not None:
        lines = command.log.read_text(errors="replace").splitlines()
        output = "\n".join(["", f"the end of {command.log}:", *lines[-25:]])
    return f"exit status {status} of: {command}{output}"


def last_step(metrics: Path) -> int:
    """The last step in a file of metrics rows; 0 if there is none yet."""
    rows = read_rows(metrics)
    return int(rows[-1]["step"]) if rows else 0
