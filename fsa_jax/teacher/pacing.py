"""How fast to ask an endpoint: its rate limits, its own "wait", and the pause after a failure.

Why not aiolimiter and tenacity: docs/decisions.md, 13.
"""

from __future__ import annotations

import asyncio
import email.utils
import random
import time
from collections.abc import Awaitable, Callable, Mapping


class RateLimiter:
    """Spaces requests evenly over time, and holds all of them back when the server asks for it.

    Args:
      requests_per_minute: None for no limit.
      tokens_per_minute: input and output tokens together; None for no limit.
    """

    def __init__(self, requests_per_minute: float | None = None, tokens_per_minute: float | None = None) -> None:
        self._seconds_per_request = 60 / requests_per_minute if requests_per_minute else 0.0
        self._seconds_per_token = 60 / tokens_per_minute if tokens_per_minute else 0.0
        self._next_request = 0.0
        self._next_tokens = 0.0
        self._paused_until = 0.0

    async def acquire(self, tokens: int, sleep: Callable[[float], Awaitable[None]] = asyncio.sleep) -> None:
        """Returns when a request that is expected to need ``tokens`` may be sent; waits by ``sleep``."""
        now = time.monotonic()
        at = max(now, self._next_request, self._next_tokens)
        self._next_request = max(now, self._next_request) + self._seconds_per_request
        self._next_tokens = max(now, self._next_tokens) + tokens * self._seconds_per_token
        while (wait := max(at, self._paused_until) - time.monotonic()) > 0:
            await sleep(wait)

    def correct(self, tokens: int) -> None:
        """Adds tokens (negative: gives back) that a request needed beyond what was expected."""
        self._next_tokens += tokens * self._seconds_per_token

    def pause(self, seconds: float) -> None:
        """Holds back all requests; the longest pause counts."""
        self._paused_until = max(self._paused_until, time.monotonic() + seconds)


def retry_after(headers: Mapping[str, str], longest: float = 300.0) -> float | None:
    """Seconds that a server asks to wait (``retry-after-ms``, ``Retry-After`` in seconds or as a date).

    Returns:
      More than 0 and at most ``longest``; None where it asks for nothing, for no time, for a time that has passed, or
      for what is no time.
    """
    try:
        if milliseconds := headers.get("retry-after-ms"):
            seconds = float(milliseconds) / 1000
        elif (value := headers.get("retry-after")) is None:
            return None
        else:
            try:
                seconds = float(value)
            except ValueError:
                seconds = email.utils.parsedate_to_datetime(value).timestamp() - time.time()
    except (ValueError, TypeError, OverflowError, OSError):
        return None
    # NaN compares false with everything.
    return min(seconds, longest) if seconds > 0 else None


def backoff(attempt: int, first: float = 0.5, longest: float = 60.0) -> float:
    """Seconds before attempt ``attempt`` + 1, doubling, drawn from the upper half so that clients fall out of step."""
    return min(longest, first * 2.0 ** min(attempt, 30)) * random.uniform(0.5, 1.0)
