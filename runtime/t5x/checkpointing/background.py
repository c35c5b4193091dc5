"""One piece of work at a time in another thread that leaves the processor to training."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Callable
from concurrent import futures


class Background:
    """Runs at most one piece of work in another thread."""

    def __init__(self) -> None:
        self._running: futures.Future[float] | None = None

    def start(self, work: Callable[[Callable[[], None]], float]) -> None:
        """Starts ``work(ready)``, and returns when the work has called ``ready`` or has ended.

        Args:
          work: Must not start while another one runs (:meth:`wait`). Its result is what :meth:`wait` returns.
        """
        assert self._running is None
        ready = threading.Event()
        pool = futures.ThreadPoolExecutor(1, initializer=_lower_priority)
        self._running = pool.submit(work, ready.set)
        self._running.add_done_callback(lambda _: ready.set())
        pool.shutdown(wait=False)
        ready.wait()

    def finished(self) -> float | None:
        """Returns the result of work that has ended since the last call of this class; None if there is none.

        Raises:
          Exception: The error of the work.
        """
        return self.wait() if self._running is not None and self._running.done() else None

    def wait(self) -> float | None:
        """Waits for the work, and returns its result as :meth:`finished` does.

        If Ctrl-C interrupts the waiting, the work goes on, and can be waited for again.

        Raises:
          Exception: The error of the work.
        """
        if self._running is None:
            return None
        futures.wait([self._running])
        ended, self._running = self._running, None
        return ended.result()


def _lower_priority() -> None:
    # On a machine without an accelerator, the steps need the same cores. Linux has priorities of single threads, which
    # the threads that they create inherit; this one gets what all others leave.
    if hasattr(os, "SCHED_IDLE"):
        with contextlib.suppress(OSError):  # some sandboxes refuse it
            os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
