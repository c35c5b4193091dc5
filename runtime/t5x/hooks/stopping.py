"""SIGTERM, as schedulers send it before they take a machine away, and Ctrl-C: finish the step, save, stop."""

from __future__ import annotations

import os
import signal
import threading
from types import FrameType
from typing import Any

import jax


class Preemption:
    """Catches SIGTERM while it is entered as a context, and Ctrl-C from :meth:`catch_interrupts` on.

    With several processes, JAX's own preemption service lets all of them stop at the same step.

    Attributes:
      requested: whether to stop.
      interrupted: whether it was Ctrl-C that asked for it.
    """

    def __init__(self) -> None:
        self.requested = False
        self.interrupted = False
        self._previous: dict[int, Any] = {}

    def __enter__(self) -> Preemption:
        if jax.process_count() == 1:
            self._handle(signal.SIGTERM, self._on_signal)
        return self

    def catch_interrupts(self) -> None:
        """From here on the first Ctrl-C asks to stop, and a second one ends the process at once.

        Before, while nothing is trained, Ctrl-C is an ordinary KeyboardInterrupt.
        """
        self._handle(signal.SIGINT, self._on_interrupt)

    def _handle(self, number: int, handler: Any) -> None:
        if threading.current_thread() is threading.main_thread():
            self._previous[number] = signal.signal(number, handler)

    def __exit__(self, *_: Any) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def _on_signal(self, signum: int, frame: FrameType | None) -> None:
        del signum, frame
        self.requested = True

    def _on_interrupt(self, signum: int, frame: FrameType | None) -> None:
        del signum, frame
        if self.interrupted:
            os.write(2, b"stopped at once; the same command goes on from the newest checkpoint\n")
            os._exit(128 + signal.SIGINT)
        self.interrupted = True
        if jax.process_count() > 1:
            os.kill(os.getpid(), signal.SIGTERM)  # JAX's service tells the others.
        else:
            self.requested = True

    def should_stop(self, step: int) -> bool:
        """Returns whether to stop after ``step``, the same answer on every process."""
        if jax.process_count() > 1:
            from jax.experimental import multihost_utils

            self.requested = self.requested or multihost_utils.reached_preemption_sync_point(step)
        return self.requested
