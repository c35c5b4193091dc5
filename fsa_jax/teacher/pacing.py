"""How fast requests are sent to an endpoint: rate limits, ``Retry-After`` headers and the pause after a failure.

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
      requests_per_minute: limit on requests per minute; None for no limit.
      tokens_per_minute: limit on input and output tokens together; None for no limit.
    """

    def __init__(self, requests_per_minute: float | None = None, tokens_per_minute: float | None = None) -> None:
        self._seconds_per_request = 60 / requests_per_minute if requests_per_minute else 0.0
        self._seconds_per_token = 60 / tokens_per_minute if tokens_per_minute else 0.0
        self._next_request = 0.0
        self._next_tokens = 0.0
        self._paused_until = 0.0

    async def acquire(self, tokens: int, sleep: Callable[[float], Awaitable[None]] = asyncio.sleep) -> None:
        """Waits (with ``sleep``) until a request that is expected to need ``tokens`` may be sent."""
        now = time.monotonic()
        at = max(now, self._next_request, self._next_tokens)
        self._next_request = max(now, self._next_request) + self._seconds_per_request
        self._next_tokens = max(now, self._next_tokens) + tokens * self._seconds_per_token
        while (wait := max(at, self._paused_until) - time.monotonic()) > 0:
            await sleep(wait)

    def correct(self, tokens: int) -> None:
        """Adds the difference between the tokens that a request used and those that were expected; may be negative."""
        self._next_tokens += tokens * self._seconds_per_token

    def pause(self, seconds: float) -> None:
        """Delays all requests by ``seconds``; of several pauses the longest counts."""
        self._paused_until = max(self._paused_until, time.monotonic() + seconds)


def retry_after(headers: Mapping[str, str], longest: float = 300.0) -> float | None:
    """Seconds that a server asks to wait (``retry-after-ms``, ``Retry-After`` in seconds or as a date).

    Returns:
      A number above 0 and at most ``longest``. None if there is no such header, or its value is zero, in the past or
      invalid.
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
    # Comparisons with NaN are false, so NaN gives None.
    return min(seconds, longest) if seconds > 0 else None


def backoff(attempt: int, first: float = 0.5, longest: float = 60.0) -> float:
    """Seconds to wait before attempt ``attempt`` + 1: doubles each time, with random jitter so that clients do not
    retry at the same moment."""
    return min(longest, first * 2.0 ** min(attempt, 30)) * random.uniform(0.5, 1.0)
