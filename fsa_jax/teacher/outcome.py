"""What a job has done so far."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass, field


@dataclass
class Outcome:
    """Counts of what a job has done; updated while it runs."""

    skipped: int = 0
    answered: int = 0
    failures: Counter[str] = field(default_factory=Counter)
    input_tokens: int = 0
    output_tokens: int = 0
    began: float = field(default_factory=time.monotonic)
    stopped: str | None = None
    """Why the job ended before all requests were done; None if all are done."""
    dropped: int = 0
    """Number of requests that were sent but whose answers were not waited for."""
    redacted: int = 0
    """Number of answers from which an API key was removed."""

    @property
    def stored(self) -> int:
        return self.answered + self.failures.total()

    @property
    def seconds(self) -> float:
        return time.monotonic() - self.began
