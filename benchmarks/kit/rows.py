"""Rows of results: one line of JSON each, written as soon as it is measured, so that a kill loses nothing.

Every row has ``slice``, ``part`` and what was measured. A part that failed has ``error``, the end of its traceback; one
for which no time was left has ``skipped``.
"""

from __future__ import annotations

import argparse
import json
import os
import time
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.kit.sizes import SIZES, Size

FILE = "rows.jsonl"
ERROR_CHARACTERS = 1_500
RESERVE = 5.0
"""Seconds of a slice in which no further part starts."""


def write(folder: Path, row: Mapping[str, Any]) -> None:
    """Appends a row to the results in ``folder``, on the disk when this returns."""
    with (folder / FILE).open("a", encoding="utf-8") as stream:
        stream.write(json.dumps({"at": time.strftime("%H:%M:%S"), **row}) + "\n")
        stream.flush()
        os.fsync(stream.fileno())


def read(folder: Path) -> list[dict[str, Any]]:
    """All rows that were written to the end."""
    file = folder / FILE
    lines = file.read_text("utf-8").split("\n")[:-1] if file.exists() else []
    return [json.loads(line) for line in lines]


@dataclass(frozen=True)
class Slice:
    """A slice that is running.

    Args:
      name: its name.
      out: folder of the results.
      data: folder with the tokens of the kit.
      scratch: folder for weights and traces, which nobody keeps.
      size: what to measure.
      until: time (of ``time.time()``) at which it is killed.
    """

    name: str
    out: Path
    data: Path
    scratch: Path
    size: Size
    until: float

    @classmethod
    def from_command_line(cls, description: str | None) -> Slice:
        """The slice that ``run`` asked this process for."""
        parser = argparse.ArgumentParser(description=description)
        parser.add_argument("name")
        for folder in ("out", "data", "scratch"):
            parser.add_argument(f"--{folder}", type=Path, required=True)
        parser.add_argument("--size", choices=SIZES, required=True)
        parser.add_argument("--until", type=float, required=True)
        options = parser.parse_args()
        size = SIZES[options.size]
        return cls(options.name, options.out, options.data, options.scratch, size, options.until)

    def left(self) -> float:
        """Seconds in which parts may still start."""
        return self.until - RESERVE - time.time()

    def row(self, part: str, **measured: Any) -> None:
        """Writes a row."""
        write(self.out, {"slice": self.name, "part": part, **measured})

    def measure(self, part: str, measurement: Callable[[], Mapping[str, Any]]) -> None:
        """Writes a row with what ``measurement`` returns, or with its error. A failure does not stop other parts."""
        if self.left() <= 0:
            self.row(part, skipped="no time left")
            return
        try:
            self.row(part, **measurement())
        except Exception:
            self.row(part, error=traceback.format_exc()[-ERROR_CHARACTERS:])
