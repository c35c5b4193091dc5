"""Fault campaigns: short in ``make test``, long in ``make faults``; another ``FAULTS_SEED`` draws other cases."""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from campaign import Campaign


@pytest.fixture
def cases() -> Callable[[int, int], int]:
    """A function: ``cases(short, long)`` returns the number of cases to try."""
    is_long = os.environ.get("FAULTS") == "long"
    return lambda short, long: long if is_long else short


@pytest.fixture
def rng(request: pytest.FixtureRequest) -> random.Random:
    """The random generator of the campaign, seeded with ``FAULTS_SEED`` (default 0) and the name of the test."""
    return random.Random(f"{os.environ.get('FAULTS_SEED', '0')} {request.node.name}")


@pytest.fixture
def campaign(request: pytest.FixtureRequest, record_property: Callable[[str, Any], None]) -> Iterator[Campaign]:
    """The campaign of the test. After the test, its counts are recorded, and the test fails if a case failed."""
    running = Campaign(request.node.name)
    yield running
    record_property("campaign", running.summary())
    running.require_no_failures()


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Prints the outcomes of all cases."""
    found = {
        properties["name"]: properties
        for reports in terminalreporter.stats.values()
        for report in reports
        for name, properties in getattr(report, "user_properties", [])
        if name == "campaign"
    }
    if not found:
        return
    terminalreporter.section("fault campaigns")
    for summary in found.values():
        outcomes = ", ".join(f"{count:,} {outcome}" for outcome, count in sorted(summary["outcomes"].items()))
        terminalreporter.line(
            f"{summary['name']}: {summary['cases']:,} cases: {outcomes}; "
            f"slowest {summary['slowest_seconds']} s, peak {summary['peak_gib']} GiB"
        )
    total = sum(summary["cases"] for summary in found.values())
    failures = sum(summary["failures"] for summary in found.values())
    slowest = max(summary["slowest_seconds"] for summary in found.values())
    peak = max(summary["peak_gib"] for summary in found.values())
    terminalreporter.line(f"{total:,} cases, {failures} failures; slowest {slowest} s, peak {peak} GiB")
