"""The progress line of a run: step, total steps, loss, tokens per second, remaining time."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from typing import Any, TextIO

import jax

_TERMINAL_SECONDS = 0.5
_PLAIN_SECONDS = 30.0


class Progress:
    """Writes the progress line: on a terminal it is updated in place, elsewhere a new line is written every 30 seconds.

    Args:
      first: Step at which the run begins.
      last: Step at which it ends.
      stream: Where to write. If None, standard error.
      enabled: Whether to write at all; only process 0 does.
      unit: Name of what is counted.
      after: Seconds before the first line. A task that ends earlier shows no progress line.
    """

    def __init__(
        self,
        first: int,
        last: int,
        stream: TextIO | None = None,
        enabled: bool = True,
        unit: str = "step",
        after: float = 0.0,
    ) -> None:
        self._last = last
        self._stream = sys.stderr if stream is None else stream
        self._enabled, self._unit = enabled, unit
        self._terminal = self._stream.isatty()
        self._every = _TERMINAL_SECONDS if self._terminal else _PLAIN_SECONDS
        self._since: float | None = None
        self._since_step = first
        self._silent_until = time.monotonic() + after if after else float("-inf")
        self._shown_at = float("-inf")
        self._speed: float | None = None

    def due(self, step: int) -> bool:
        """Returns whether it is time for a line. If not, the caller need not fetch the loss from the device."""
        now = time.monotonic()
        wanted = step == self._last or now - self._shown_at >= self._every
        return self._enabled and wanted and now >= self._silent_until

    def show(self, step: int, values: Mapping[str, Any], tokens_per_step: float) -> None:
        """Writes the line.

        Args:
          step: Number of completed steps.
          values: Metrics of the latest steps. Shown is ``loss_per_nonpadding_target_token``, otherwise ``loss``.
          tokens_per_step: Target tokens in a batch, padding included; 0 if there are none.
        """
        now = time.monotonic()
        steps = step - self._since_step
        if steps > 0 and self._since is not None:
            speed = steps / max(now - self._since, 1e-9)
            # An exponential average, so that the remaining time neither jumps nor reacts too slowly.
            self._speed = speed if self._speed is None else (self._speed + speed) / 2
        self._since, self._since_step, self._shown_at = now, step, now
        parts = [f"{self._unit} {step}/{self._last}"]
        for name, label in (("loss_per_nonpadding_target_token", "loss"), ("loss", "loss")):
            if name in values:
                parts.append(f"{label} {values[name]:.4g}")
                break
        if self._speed is not None:
            if tokens_per_step:
                parts.append(f"{_thousands(self._speed * tokens_per_step)} tokens/s")
            parts.append(f"{_duration((self._last - step) / self._speed)} left")
        self._write("  ".join(parts), final=step == self._last)

    def _write(self, line: str, final: bool) -> None:
        if self._terminal:
            self._stream.write(f"\r\x1b[2K{line}" + ("\n" if final else ""))
        else:
            self._stream.write(line + "\n")
        self._stream.flush()

    def say(self, message: str) -> None:
        """Writes a separate line above the progress line."""
        if self._enabled:
            self._stream.write(f"\r\x1b[2K{message}\n" if self._terminal else message + "\n")
            self._stream.flush()


def announce(message: str) -> None:
    """Prints ``message`` on standard error, only on process 0; for messages before the progress line exists."""
    if jax.process_index() == 0:
        print(message, file=sys.stderr, flush=True)


def _thousands(number: float) -> str:
    for size, suffix in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if number >= size:
            return f"{number / size:.3g}{suffix}"
    return f"{number:.3g}"


def _duration(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours}h {minutes:02}m"
    return f"{minutes}m {seconds:02}s" if minutes else f"{seconds}s"
