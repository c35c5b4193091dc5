"""A campaign: many cases of one kind of fault, what became of each, and what must never become of one."""

from __future__ import annotations

import resource
import time
import traceback
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from fsa_base.errors import FsaError

CASE_SECONDS = 10.0
"""No case may take longer; nothing that is tried here is large."""


@dataclass
class Campaign:
    """Counts the outcomes of cases and keeps what failed.

    Attributes:
      name: the test's name.
      outcomes: number of cases by outcome.
      failures: a text for every case that ended in a traceback, in a wrong result, or too late.
      slowest: seconds of the slowest case.
    """

    name: str
    outcomes: Counter[str] = field(default_factory=Counter)
    failures: list[str] = field(default_factory=list)
    slowest: float = 0.0

    def run(self, case: str, attempt: Callable[[], str], limit: float | None = None) -> None:
        """Tries one case.

        Args:
          case: what was done, with all seeds, so that it can be done again.
          attempt: does it. Returns the outcome in a word or two ("same rows", "rows counted as dropped"), raises an
            ``FsaError`` where the input is refused, and an ``AssertionError`` where something is wrong in silence.
          limit: seconds that it may take, ``CASE_SECONDS`` if None; more only where a case is a whole program.
        """
        began = time.monotonic()
        try:
            outcome = attempt()
        except FsaError:
            outcome = "refused"
        except Exception:
            outcome = "FAILED"
            self.failures.append(f"{case}\n{traceback.format_exc(limit=-6)}")
        seconds = time.monotonic() - began
        if seconds > (CASE_SECONDS if limit is None else limit):
            self.failures.append(f"{case}\ntook {seconds:.1f} s")
        self.slowest = max(self.slowest, seconds)
        self.outcomes[outcome] += 1

    @property
    def cases(self) -> int:
        """Number of cases tried."""
        return self.outcomes.total()

    def summary(self) -> dict[str, object]:
        """Returns the counts, and the largest memory that this process has had (GiB)."""
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
        return {
            "name": self.name,
            "cases": self.cases,
            "outcomes": dict(self.outcomes),
            "failures": len(self.failures),
            "slowest_seconds": round(self.slowest, 2),
            "peak_gib": round(peak, 2),
        }

    def require_no_failures(self) -> None:
        """Raises ``AssertionError`` with the first failures, or if nothing was tried."""
        assert self.cases, "the campaign tried no case"
        shown = "\n\n".join(self.failures[:5])
        assert not self.failures, f"{len(self.failures)} of {self.cases} cases failed, among them:\n\n{shown}"
