"""Tests of the tools of the fault campaigns."""

from __future__ import annotations

import random
import time

import pytest
from campaign import Campaign
from damage import KINDS, damaged

from fsa_base.errors import DataError


def test_damage_always_changes_the_bytes_and_repeats_with_its_seed() -> None:
    data = bytes(range(256)) * 4
    for seed in range(20 * len(KINDS)):
        said, changed = damaged(data, random.Random(seed))
        assert said and changed != data
        assert damaged(data, random.Random(seed)) == (said, changed)


def test_a_campaign_tells_refusals_from_tracebacks(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse() -> str:
        raise DataError("file", expected="a", found="b", fix="c")

    campaign = Campaign("one")
    campaign.run("fine", lambda: "same rows")
    campaign.run("refused", refuse)
    campaign.require_no_failures()
    campaign.run("broken", lambda: str(1 // 0))
    with pytest.raises(AssertionError, match="broken"):
        campaign.require_no_failures()
    assert campaign.outcomes == {"same rows": 1, "refused": 1, "FAILED": 1}


def test_a_slow_case_is_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("campaign.CASE_SECONDS", 0.01)
    campaign = Campaign("one")
    campaign.run("slow", lambda: time.sleep(0.05) or "done")
    with pytest.raises(AssertionError, match="took"):
        campaign.require_no_failures()


def test_a_campaign_without_cases_is_a_failure() -> None:
    with pytest.raises(AssertionError, match="no case"):
        Campaign("none").require_no_failures()
