"""A contender of a comparison of training steps: a process that waits while another one works.

Several can start, or train, at once: first all are asked, then all answers are waited for.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path

from fsa_jax.common.training_engine import KEEPING_MEMORY

ROOT = Path(__file__).resolve().parents[1]
STEPS = ROOT / "benchmarks" / "steps"
LOG_CHARACTERS = 3_000
UNITS = ("examples", "tokens")


class ContenderError(RuntimeError):
    """A contender has ended, or does not answer in time; the message has the end of what it said."""


class Contender:
    """A process of benchmarks/steps that trains when it is asked; it starts at once.

    Args:
      name: name in the table.
      command: its command line.
      checkout: the checkout whose packages it imports.
      device: ``cpu``, ``cuda`` or ``tpu``.
      variables: additions to its environment.
      until: time (of ``time.time()``) until which it must answer; None for no limit.

    Attributes:
      until: as above.
      turns: for every turn what ``turns.serve`` answered, and examples and tokens per second.
    """

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        checkout: Path = ROOT,
        device: str = "cpu",
        variables: Mapping[str, str] | None = None,
        until: float | None = None,
    ) -> None:
        self.name = name
        self.turns: list[dict[str, float]] = []
        self.until = until
        self._log = tempfile.TemporaryFile("w+")  # noqa: SIM115 - it lives as long as the process
        self._process = subprocess.Popen(
            [sys.executable, *command],
            env=environment(checkout, device) | dict(variables or {}),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
        )

    @cached_property
    def loss(self) -> float:
        """Loss of the first examples before training; waits until the process has computed it.

        Raises:
          ContenderError: it has ended.
        """
        return self._answer()["loss"]

    def train(self, seconds: float) -> None:
        """Trains for about ``seconds``, whole steps, and stores the turn.

        Raises:
          ContenderError: it has ended.
        """
        self.ask(seconds)
        self.take()

    def ask(self, seconds: float) -> None:
        """Asks for a turn; :meth:`take` waits for its end."""
        assert self.loss is not None and self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # the missing answer says why
            print(json.dumps({"seconds": seconds}), file=self._process.stdin, flush=True)

    def take(self) -> None:
        """Waits for the end of the turn that was asked for, and stores it."""
        found = self._answer()
        self.turns.append(found | {f"{unit}_per_second": found[unit] / found["seconds"] for unit in UNITS})

    def close(self) -> None:
        """Ends the process."""
        self._process.kill()
        self._process.communicate()

    def _answer(self) -> dict[str, float]:
        assert self._process.stdout is not None
        line, limit = "", None if self.until is None else max(0.0, self.until - time.time())
        if select.select([self._process.stdout], [], [], limit)[0]:
            line = self._process.stdout.readline()
        if not line:
            self._log.seek(0)
            raise ContenderError(f"{self.name} ended or was too slow:\n{self._log.read()[-LOG_CHARACTERS:]}")
        return json.loads(line)


def environment(checkout: Path, device: str = "cpu") -> dict[str, str]:
    """The environment in which the packages of a checkout are imported, before those that are on the path already."""
    packages = [str(folder) for folder in (checkout, checkout / "base", checkout / "runtime")]
    path = os.pathsep.join([*packages, *filter(None, [os.environ.get("PYTHONPATH")])])
    # All contenders have their state on the device at the same time, so none may reserve it.
    jax = {"JAX_PLATFORMS": device, "XLA_PYTHON_CLIENT_PREALLOCATE": "false"}
    return os.environ | KEEPING_MEMORY | jax | {"PYTHONPATH": path}
