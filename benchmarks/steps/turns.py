"""How a contender of training_step.py is asked: one line of JSON per turn on its standard input and output."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from typing import Any


def serve(loss: float, step: Callable[[], tuple[int, int]]) -> None:
    """Says the loss before training; then, for every question ``{"seconds": S}``, makes one step or more for S seconds.

    Args:
      loss: loss of the first examples without dropout.
      step: makes one step to its end; returns its numbers of examples and of real target tokens.
    """
    _say({"loss": loss})
    for line in sys.stdin:
        limit = json.loads(line)["seconds"]
        examples = tokens = 0
        began = time.perf_counter()
        while True:
            made = step()
            examples, tokens = examples + made[0], tokens + made[1]
            seconds = time.perf_counter() - began
            if seconds >= limit:
                break
        _say({"seconds": seconds, "examples": examples, "tokens": tokens})


def _say(answer: dict[str, Any]) -> None:
    print(json.dumps(answer), flush=True)
