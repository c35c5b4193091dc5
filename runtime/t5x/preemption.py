"""SIGTERM, as schedulers send it before they take a machine away: finish the step, save, stop."""

from __future__ import annotations

import signal
import threading
from types import FrameType
from typing import Any

import jax


class Preemption:
    """Catches SIGTERM while it is entered as a context.

    With several processes, JAX's own preemption service lets all of them stop at the same step.
    """

    def __init__(self) -> None:
        self.requested = False
        self._previous: Any = None

    def __enter__(self) -> Preemption:
        if threading.current_thread() is threading.main_thread() and jax.process_count() == 1:
            self._previous = signal.signal(signal.SIGTERM, self._on_signal)
        return self

    def __exit__(self, *_: Any) -> None:
        if self._previous is not None:
            signal.signal(signal.SIGTERM, self._previous)

    def _on_signal(self, signum: int, frame: FrameType | None) -> None:
        del signum, frame
        self.requested = True

    def should_stop(self, step: int) -> bool:
        """Returns whether to stop after ``step``, the same answer on every process."""
        if jax.process_count() > 1:
            from jax.experimental import multihost_utils

            self.requested = self.requested or multihost_utils.reached_preemption_sync_point(step)
        return self.requested
