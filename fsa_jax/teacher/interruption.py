"""How Ctrl-C and SIGTERM end a job: on the command line, in a script and in a notebook."""

from __future__ import annotations

import asyncio
import signal
import threading
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from typing import Any, TypeVar

from fsa_jax.teacher.job import Job

T = TypeVar("T")


class Interruption:
    """Ends a job: the first interruption within ``seconds``, the second at once. Stored rows stay.

    Args:
      seconds: time that requests in flight have to be answered.
      say: receives a line about an interruption.
    """

    def __init__(self, seconds: float, say: Callable[[str], None]) -> None:
        self._seconds = seconds
        self._say = say
        self._received = 0
        self._job: Job | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    def run(self, main: Coroutine[Any, Any, T]) -> T:
        """Runs a coroutine to its end, and returns its result.

        A notebook runs its cells inside an event loop of its own; there the coroutine gets a thread with another loop,
        and Ctrl-C ("interrupt the kernel") ends the job as on the command line.
        """
        if not _in_event_loop():
            return asyncio.run(main)
        with ThreadPoolExecutor(1, "teach") as thread:
            result = thread.submit(asyncio.run, main)
            while True:
                try:
                    return result.result()
                except KeyboardInterrupt:
                    self._received += 1
                    if self._loop is not None:
                        with suppress(RuntimeError):  # the loop has just ended
                            self._loop.call_soon_threadsafe(self._act, "Ctrl-C")

    def _act(self, name: str) -> None:
        if self._job is None:
            return
        if self._received == 1:
            self._say(f"{name}: waiting {self._seconds:g} s for answers in flight; repeat it to stop at once")
        self._job.interrupt(name, self._seconds if self._received == 1 else 0.0)

    def _on_signal(self, name: str) -> None:
        self._received += 1
        self._act(name)

    @contextmanager
    def of(self, job: Job) -> Iterator[None]:
        """Ends this job if an interruption comes during the block, or came before it."""
        self._job, self._loop = job, asyncio.get_running_loop()
        if self._received:
            self._act("Ctrl-C")
        # Python allows signal handlers in the main thread only.
        handled = (signal.SIGINT, signal.SIGTERM) if threading.current_thread() is threading.main_thread() else ()
        before = {number: signal.getsignal(number) for number in handled}
        for number in handled:
            self._loop.add_signal_handler(number, self._on_signal, number.name)
        try:
            yield
        finally:
            for number in handled:
                self._loop.remove_signal_handler(number)
                if before[number] is not None:  # None: a handler that was not installed from Python
                    signal.signal(number, before[number])
            self._job = self._loop = None


def _in_event_loop() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True
