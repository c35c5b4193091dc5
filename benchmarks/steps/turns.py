"""How a contender of training_step.py is asked: one line of JSON per turn on its standard input and output."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from typing import Any


def serve(
    loss: float, step: Callable[[], tuple[int, int]], wait: Callable[[], Any], peak_bytes: Callable[[], int | None]
) -> None:
    """Says the loss before training; then, for every question ``{"seconds": S}``, makes one step or more for S seconds.

    The number of steps follows from the pace of the turn before. So a device need not be waited for within a turn.

    Args:
      loss: loss of the first examples without dropout.
      step: starts one step; returns its numbers of examples and of real target tokens.
      wait: waits until all steps have ended.
      peak_bytes: most memory of the device that was in use so far, if it is known.
    """
    _say({"loss": loss})
    pace = float("inf")
    for line in sys.stdin:
        limit = json.loads(line)["seconds"]
        steps = max(1, round(limit / pace))
        examples = tokens = 0
        began = time.perf_counter()
        for _ in range(steps):
            made = step()
            examples, tokens = examples + made[0], tokens + made[1]
        wait()
        seconds = time.perf_counter() - began
        pace = seconds / steps
        _say({"seconds": seconds, "examples": examples, "tokens": tokens, "steps": steps, "peak_bytes": peak_bytes()})


def _say(answer: dict[str, Any]) -> None:
    print(json.dumps(answer), flush=True)
