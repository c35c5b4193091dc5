"""How far a running job is, and when it will end."""

from __future__ import annotations

import asyncio
import sys
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from threading import Event
from typing import NoReturn

from tqdm import tqdm

from fsa_base.errors import FsaError
from fsa_jax.teacher.cost import Budget, amount
from fsa_jax.teacher.job import Job
from fsa_jax.teacher.outcome import Outcome

TICK_SECONDS = 1.0
PLAIN_SECONDS = 60.0
"""Seconds between two lines where the output is not a terminal."""

WINDOW_SECONDS = 120.0
"""The remaining time comes from the speed of the last two minutes. A mean since the start would include the loading of
the model, and would notice a server that has become slower hours later."""


@dataclass(frozen=True)
class Progress:
    """How far a job is.

    Attributes:
      done: number of requests whose answer or failure is stored, those of earlier jobs included.
      total: number of all requests; None while it is being counted.
      failed: number of failures that this job has stored.
      tokens_per_second: output tokens per second in the last two minutes.
      cost: cost of this job; None without prices.
      spent: cost of this teacher in this shard, earlier jobs included; None without a limit on the cost.
      max_cost: the limit on ``spent``; None if there is none.
      seconds_left: seconds until the end at the speed of the last two minutes; None while it is unknown.
    """

    done: int
    total: int | None
    failed: int
    tokens_per_second: float
    cost: float | None
    spent: float | None
    max_cost: float | None
    seconds_left: float | None

    def line(self) -> str:
        """The progress as one line of text."""
        parts = [f"{self.done:,} requests" if self.total is None else f"{self.done:,} of {self.total:,} requests"]
        parts.append(f"{self.tokens_per_second:,.0f} tokens/s")
        if self.max_cost is not None and self.spent is not None:
            parts.append(f"cost {amount(self.spent)} of {amount(self.max_cost)}")
        elif self.cost is not None:
            parts.append(f"cost of this run {amount(self.cost)}")
        if self.failed:
            parts.append(f"{self.failed:,} failed")
        if self.seconds_left is not None:
            parts.append(f"{duration(self.seconds_left)} left")
        return ", ".join(parts)


def duration(seconds: float) -> str:
    """A time as text, such as ``3 h 20 min``."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    if minutes < 90:
        return f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours < 48 else f"{hours / 24:.1f} days"


class Pace:
    """The speed of the last seconds of a job.

    Args:
      window: number of seconds.
    """

    def __init__(self, window: float = WINDOW_SECONDS) -> None:
        self._window = window
        self._points: deque[tuple[float, int, int]] = deque()

    def add(self, now: float, requests: int, tokens: int) -> None:
        """Adds the number of requests and output tokens since the start, at the time ``now``."""
        self._points.append((now, requests, tokens))
        # The first point is the last one that is older than the window.
        while len(self._points) > 2 and self._points[1][0] <= now - self._window:
            self._points.popleft()

    def speed(self) -> tuple[float, float]:
        """Requests and output tokens per second; zeros if there is only one point."""
        (began, *first), (ended, *last) = self._points[0], self._points[-1]
        seconds = ended - began
        requests, tokens = (
            (there - here) / seconds if seconds else 0.0 for here, there in zip(first, last, strict=True)
        )
        return requests, tokens


class _Reporter:
    """Makes the Progress of a job each time it is asked."""

    def __init__(self, outcome: Outcome, budget: Budget) -> None:
        self._outcome = outcome
        self._budget = budget
        self._pace = Pace()
        self.counted: tuple[int, int] | None = None
        """Numbers of stored and of missing requests when the job began."""

    def progress(self) -> Progress:
        outcome, budget = self._outcome, self._budget
        self._pace.add(time.monotonic(), outcome.stored, outcome.output_tokens)
        requests_per_second, tokens_per_second = self._pace.speed()
        total, left = None, None
        done = outcome.skipped + outcome.stored
        if self.counted is not None:
            skipped, missing = self.counted
            done, total = skipped + outcome.stored, skipped + missing
            if requests_per_second:
                left = (missing - outcome.stored) / requests_per_second
        return Progress(
            done=done,
            total=total,
            failed=outcome.failures.total(),
            tokens_per_second=tokens_per_second,
            cost=budget.cost_now,
            spent=budget.cost if budget.max_cost is not None else None,
            max_cost=budget.max_cost,
            seconds_left=left,
        )


@asynccontextmanager
async def reporting(
    job: Job,
    budget: Budget,
    report: Callable[[Progress], None] | None,
    count: Callable[[Event], tuple[int, int] | None],
) -> AsyncIterator[None]:
    """Calls ``report`` every second while the job runs, and once at the end.

    Args:
      job: the job; it is stopped if ``report`` raises an error, which is raised again at the end of the block.
      budget: budget of the job, which knows its cost.
      report: receives the progress; None for none.
      count: function that counts the stored and the missing requests, and ends when its event is set; it runs in a
        thread of its own.
    """
    if report is None:
        yield
        return
    reporter = _Reporter(job.outcome, budget)
    stopped = Event()

    async def count_all() -> None:
        # An error of the reviews is left to the job, which reads the same reviews.
        with ThreadPoolExecutor(1, "count") as thread, suppress(FsaError):
            reporter.counted = await asyncio.get_running_loop().run_in_executor(thread, count, stopped)

    async def tick() -> None:
        try:
            while not stopped.is_set():
                report(reporter.progress())
                await asyncio.sleep(TICK_SECONDS)
        except Exception:
            job.stop("the progress cannot be shown")
            raise

    counting, ticking = asyncio.create_task(count_all()), asyncio.create_task(tick())
    try:
        yield
    finally:
        stopped.set()
        await counting
        ticking.cancel()
        (result,) = await asyncio.gather(ticking, return_exceptions=True)
    if isinstance(result, Exception):
        raise result
    report(reporter.progress())


@contextmanager
def shown_progress(plain_seconds: float = PLAIN_SECONDS) -> Iterator[Callable[[Progress], None]]:
    """Shows progress on standard error: a line that is rewritten on a terminal, otherwise a new line every minute.

    Args:
      plain_seconds: seconds between two lines where standard error is not a terminal.

    Yields:
      The function to call with the progress.
    """
    if not sys.stderr.isatty():
        began = time.monotonic()

        def say(progress: Progress) -> None:
            nonlocal began
            if time.monotonic() - began >= plain_seconds:
                began = time.monotonic()
                print(progress.line(), file=sys.stderr, flush=True)

        yield say
        return
    with ExitStack() as stack:
        bar: tqdm[NoReturn] | None = None

        def show(progress: Progress) -> None:
            nonlocal bar
            if bar is None:
                bar = stack.enter_context(tqdm(bar_format="{desc}", dynamic_ncols=True))
            bar.total, bar.n = progress.total, progress.done
            bar.bar_format = "{desc}" if progress.total is None else "{percentage:3.0f}%|{bar:20}| {desc}"
            bar.set_description_str(progress.line())

        yield show
