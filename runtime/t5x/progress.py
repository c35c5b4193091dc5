"""One line that says how far a run is: step of total, loss, tokens per second, time left."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from typing import Any, TextIO

import jax

_TERMINAL_SECONDS = 0.5
_PLAIN_SECONDS = 30.0


class Progress:
    """Writes the progress line: rewritten in place on a terminal, a plain line every half minute elsewhere.

    Args:
      first: step that the run begins at.
      last: step that it ends at.
      stream: standard error if None.
      enabled: whether to write at all; only process 0 does.
      unit: what is counted.
      after: seconds without a line at first, for what is mostly over before them: then it writes nothing.
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
        """Returns whether a line is due, so that the loss need not be fetched when it is not."""
        now = time.monotonic()
        wanted = step == self._last or now - self._shown_at >= self._every
        return self._enabled and wanted and now >= self._silent_until

    def show(self, step: int, values: Mapping[str, Any], tokens_per_step: float) -> None:
        """Writes the line.

        Args:
          step: steps done.
          values: metrics of the latest steps; ``loss_per_nonpadding_target_token`` or else ``loss`` is shown.
          tokens_per_step: target tokens of a batch, padding included; 0 where there are none.
        """
        now = time.monotonic()
        steps = step - self._since_step
        if steps > 0 and self._since is not None:
            speed = steps / max(now - self._since, 1e-9)
            # Half the weight to the latest stretch: the time left neither jumps nor lags for long.
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
        """Writes a line of its own above the progress line."""
        if self._enabled:
            self._stream.write(f"\r\x1b[2K{message}\n" if self._terminal else message + "\n")
            self._stream.flush()


def announce(message: str) -> None:
    """Prints ``message`` on standard error, from process 0 alone; for what is said before there is a progress line."""
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
