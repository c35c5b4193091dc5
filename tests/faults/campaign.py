"""A fault campaign: tries many cases of one kind of fault and records their outcomes."""

from __future__ import annotations

import resource
import time
import traceback
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from fsa_base.errors import FsaError

CASE_SECONDS = 10.0
"""Time limit of a case; all inputs are small."""


@dataclass
class Campaign:
    """Counts the outcomes of cases and collects failures.

    Attributes:
      name: name of the test.
      outcomes: number of cases by outcome.
      failures: description of every case that ended with a traceback, with a wrong result, or too late.
      slowest: seconds of the slowest case.
    """

    name: str
    outcomes: Counter[str] = field(default_factory=Counter)
    failures: list[str] = field(default_factory=list)
    slowest: float = 0.0

    def run(self, case: str, attempt: Callable[[], str], limit: float | None = None) -> None:
        """Tries one case.

        Args:
          case: description of the case, with all seeds, so that it can be repeated.
          attempt: function that runs the case. It returns the outcome in a word or two ("same rows", "rows counted as
            dropped"), and raises an ``FsaError`` if the input is refused, or an ``AssertionError`` if a fault was not
            noticed.
          limit: time limit in seconds; ``CASE_SECONDS`` if None. Larger only if a case runs a whole program.
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
        """Returns the counts, and the peak memory of this process in GiB."""
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
        """Raises ``AssertionError`` with the first failures, or if no case was tried."""
        assert self.cases, "the campaign tried no case"
        shown = "\n\n".join(self.failures[:5])
        assert not self.failures, f"{len(self.failures)} of {self.cases} cases failed, among them:\n\n{shown}"
