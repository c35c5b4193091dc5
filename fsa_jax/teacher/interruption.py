"""How Ctrl-C and SIGTERM end a job: on the command line, in a script and in a notebook."""

from __future__ import annotations

import asyncio
import signal
import threading
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Any, TypeVar

from fsa_jax.teacher.job import Job

T = TypeVar("T")


class Interruption:
    """Ends a job: the first signal within ``seconds``, the second at once. Stored rows stay.

    Args:
      seconds: time that requests in flight have to be answered.
      say: receives a line about a signal.
    """

    def __init__(self, seconds: float, say: Callable[[str], None]) -> None:
        self._seconds = seconds
        self._say = say
        self._received: list[str] = []
        self._job: Job | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    def run(self, main: Coroutine[Any, Any, T]) -> T:
        """Runs a coroutine to its end, and returns its result.

        A notebook runs its cells inside an event loop of its own; there the coroutine gets a thread with another loop.
        """
        if not _in_event_loop():
            return asyncio.run(main)
        with self._handling_signals(), ThreadPoolExecutor(1, "teach") as thread:
            return thread.submit(asyncio.run, main).result()

    @contextmanager
    def of(self, job: Job) -> Iterator[None]:
        """Ends this job if a signal comes during the block, or came before it."""
        self._job, self._loop = job, asyncio.get_running_loop()
        if self._received:
            self._act()
        try:
            with self._handling_signals():
                yield
        finally:
            self._job = self._loop = None

    @contextmanager
    def _handling_signals(self) -> Iterator[None]:
        """Does nothing in other threads than the main thread, where Python allows no handlers."""
        handled = (signal.SIGINT, signal.SIGTERM) if threading.current_thread() is threading.main_thread() else ()
        before = {number: signal.signal(number, self._receive) for number in handled}
        try:
            yield
        finally:
            for number, handler in before.items():
                if handler is not None:  # None: a handler that was not installed from Python
                    signal.signal(number, handler)

    def _receive(self, number: int, _: FrameType | None) -> None:
        self._received.append(signal.Signals(number).name)
        if self._loop is not None:
            with suppress(RuntimeError):  # the loop has just ended
                self._loop.call_soon_threadsafe(self._act)

    def _act(self) -> None:
        if self._job is None:
            return
        name, *again = self._received
        if not again:
            self._say(f"{name}: waiting {self._seconds:g} s for answers in flight; repeat it to stop at once")
        self._job.interrupt(name, 0.0 if again else self._seconds)


def _in_event_loop() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True
