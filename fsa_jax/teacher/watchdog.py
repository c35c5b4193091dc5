"""Watches an engine that may hang or die: detects it, restarts the engine and repeats the requests under way."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from contextlib import nullcontext, suppress
from typing import Generic, Protocol, TypeVar

from fsa_base.errors import TeacherError

logger = logging.getLogger(__name__)


class Restartable(Protocol):
    """An engine that can be ended, even if it no longer responds."""

    @property
    def errored(self) -> bool:
        """Whether the engine reports that it is dead."""
        ...

    def close(self) -> None:
        """Ends the engine in an orderly way."""
        ...

    def kill(self) -> None:
        """Ends the engine and all its processes, whatever their state."""
        ...


E = TypeVar("E", bound=Restartable)
T = TypeVar("T")


class LostRequestError(Exception):
    """A request was under way in too many engines that hung or died."""


class _EngineLost(Exception):
    """The engine hung or died while the request was under way."""


class Watchdog(Generic[E]):
    """Runs requests on an engine, and restarts the engine when it makes no progress.

    Args:
      start: function that starts an engine.
      stall_seconds: the engine counts as hung if requests are under way and none has ended for this long.
      max_restarts: number of restarts in a row without an answer after which the watchdog gives up. A request that was
        under way in more lost engines than this is given up alone, because it may be the cause.
    """

    def __init__(self, start: Callable[[], Awaitable[E]], *, stall_seconds: float, max_restarts: int) -> None:
        self._start = start
        self._stall_seconds = stall_seconds
        self._max_restarts = max_restarts
        self._engine: E | None = None
        self._under_way: set[asyncio.Task[object]] = set()
        self._progress = time.monotonic()
        self._ready = asyncio.Event()
        self._one_by_one = asyncio.Lock()
        self._hopeless: TeacherError | None = None
        self._watch: asyncio.Task[None] | None = None
        self.restarts = 0
        """Number of restarts since the start."""
        self._restarts_in_a_row = 0

    async def open(self) -> None:
        """Starts the first engine and the task that watches it."""
        self._engine = await self._start()
        self._ready.set()
        self._watch = asyncio.create_task(self._run())

    async def close(self) -> None:
        """Ends the watching task and the engine."""
        if self._watch is not None:
            self._watch.cancel()
            with suppress(asyncio.CancelledError):
                await self._watch
        if self._engine is not None:
            self._engine.close()

    async def run(self, request: Callable[[E], Awaitable[T]]) -> T:
        """Runs a request; repeats it on a new engine if the old one is lost.

        Raises:
          LostRequestError: the engine was lost too often during this request.
          TeacherError: no new engine can be started.
        """
        for lost in range(self._max_restarts + 1):
            # A request that was lost twice may be the one that kills engines, so such requests now run one by one.
            async with self._one_by_one if lost >= 2 else nullcontext():
                try:
                    return await self._try(request)
                except _EngineLost:
                    continue
        await self._ready.wait()
        if self._hopeless is not None:
            raise self._hopeless
        raise LostRequestError(f"under way in {self._max_restarts + 1} engines that hung or died")

    async def _try(self, request: Callable[[E], Awaitable[T]]) -> T:
        await self._ready.wait()
        if self._hopeless is not None:
            raise self._hopeless
        engine = self._engine
        assert engine is not None
        if not self._under_way:
            # An engine without work makes no progress and does not hang.
            self._progress = time.monotonic()
        task = asyncio.ensure_future(request(engine))
        self._under_way.add(task)
        try:
            result = await task
        except asyncio.CancelledError:
            this = asyncio.current_task()
            if this is None or this.cancelling():
                raise  # this task is cancelled, not the engine's request
            raise _EngineLost from None
        except Exception as error:
            # A dead engine fails all its requests, which are repeated. Any other error belongs to this request.
            if engine is self._engine and not engine.errored:
                raise
            await self._lose(engine)
            raise _EngineLost from error
        finally:
            self._under_way.discard(task)
        self._progress = time.monotonic()
        self._restarts_in_a_row = 0
        return result

    async def _lose(self, engine: E) -> None:
        """Waits until the watching task has noticed that this engine is dead."""
        while engine is self._engine and self._ready.is_set() and self._hopeless is None:
            await asyncio.sleep(0.01)

    async def _run(self) -> None:
        while self._hopeless is None:
            await asyncio.sleep(min(1.0, self._stall_seconds / 4))
            assert self._engine is not None
            silent = time.monotonic() - self._progress
            if self._engine.errored:
                await self._restart("the engine died")
            elif self._under_way and silent > self._stall_seconds:
                await self._restart(f"no request of {len(self._under_way)} has ended for {silent:.0f} s")

    async def _restart(self, why: str) -> None:
        self._ready.clear()
        engine = self._engine
        assert engine is not None
        if self._restarts_in_a_row >= self._max_restarts:
            self._give_up(why)
        else:
            self.restarts += 1
            self._restarts_in_a_row += 1
            logger.warning("%s; restarting it (%d of %d)", why, self._restarts_in_a_row, self._max_restarts)
        # Requests wait for an engine that will never answer. Cancelling wakes them, and they are repeated.
        for task in list(self._under_way):
            task.cancel()
        engine.kill()
        if self._hopeless is None:
            try:
                self._engine = await self._start()
            except Exception as error:
                self._give_up(f"{why}, and a new engine does not start: {error}")
        self._progress = time.monotonic()
        self._ready.set()

    def _give_up(self, why: str) -> None:
        self._hopeless = TeacherError(
            "vLLM engine",
            expected="an engine that answers",
            found=f"{why}, after {self._restarts_in_a_row} restarts without an answer",
            fix="read vLLM's log above; fewer requests in flight (--in-flight), less memory "
            "(--engine-args.gpu_memory_utilization) or a longer --stall-seconds may help",
        )
