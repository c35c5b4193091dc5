from __future__ import annotations

import asyncio
import random
import time
from itertools import repeat

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from stored_rows import reviews, row

from fsa_jax.common.records import Review
from fsa_jax.teacher.answers import judge
from fsa_jax.teacher.cost import Budget, Prices, _Spans, bills
from fsa_jax.teacher.generation_requests import RequestMaker
from fsa_jax.teacher.pacing import RateLimiter, backoff, retry_after


def test_bills_equal_a_calculation_by_hand(maker: RequestMaker):
    requests = [request for review in reviews(4) for request in maker.requests(review)]
    shards = [
        # Two requests at once, a pause of 100 s, and one more request: 10 + 5 seconds of work.
        [
            row(requests[0], finished=1010.0, seconds=10, devices=2),
            row(requests[1], finished=1008.0, seconds=4, devices=2),
            row(requests[2], "engine error: x", finished=1115.0, seconds=5, devices=2, output_tokens=None),
        ],
        [row(requests[3], finished=1010.0, seconds=10, prompt="other")],
    ]
    found = bills(shards, repeat(lambda teacher, at: Prices(1e6, 2e6, 3600)))
    analysis = found["test-teacher", "analysis-v1"]
    assert (analysis.requests, analysis.input_tokens, analysis.output_tokens) == (3, 300, 100)
    assert (analysis.seconds, analysis.device_seconds) == (15, 30)
    assert analysis.failures == {"engine error": 1}
    assert analysis.tokens_per_second == pytest.approx(100 / 15)
    assert analysis.cost == 300 + 2 * 100 + 30 and analysis.unpriced == 0
    assert bills(shards)["test-teacher", "analysis-v1"].unpriced == 3
    assert found["test-teacher", "other"].seconds == 10 and found["test-teacher", "other"].device_seconds == 0


def test_different_reviews_with_the_same_id_are_counted_as_several(maker: RequestMaker):
    found = [Review(id=f"{i % 3}", text=f"Visit {i}: lovely soup.", stars=3) for i in range(6)]
    rows = [row(request) for review in found for request in maker.requests(review)]
    other_seed = [
        row(request, seed=1, key=bytes(15) + bytes([i])) for i, request in enumerate(maker.requests(found[0]))
    ]
    (bill,) = bills([rows[:4], [*rows[4:], *rows, *other_seed]]).values()
    assert len(bill.reviews) == 6


@settings(max_examples=50)
@given(st.lists(st.tuples(st.integers(0, 100), st.integers(0, 20))))
def test_spans_are_a_union(spans: list[tuple[int, int]]):
    union = _Spans(buffer=3)
    for start, length in spans:
        union.add(start, start + length)
    assert union.total() == len({second for start, length in spans for second in range(start, start + length)})


@settings(max_examples=50)
@given(st.integers(1, 2000), st.integers(1, 30), st.randoms(use_true_random=False))
def test_a_budget_is_used_but_never_exceeded(limit: int, size: int, rng: random.Random):
    async def job() -> None:
        budget = Budget(Prices(), max_tokens=limit)

        async def work() -> None:
            while await budget.reserve(size, size):
                await asyncio.sleep(0)
                await budget.settle((size, size), (size, rng.randint(0, size)))

        await asyncio.gather(*(work() for _ in range(8)))
        assert limit - 2 * size < budget.tokens <= limit
        assert budget.used_up == f"{limit:,.0f} tokens"

    asyncio.run(job())


def test_accelerators_use_up_a_budget():
    async def job() -> None:
        budget = Budget(Prices(device_hour=3600), max_cost=0.2, devices=2)
        assert await budget.reserve(1, 1)
        await budget.settle((1, 1), (1, 1))
        await asyncio.sleep(0.15)
        assert not await budget.reserve(1, 1)

    asyncio.run(job())


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"retry-after": "7"}, 7),
        ({"retry-after-ms": "1500", "retry-after": "9"}, 1.5),
        ({"retry-after": "-3"}, None),
        ({"retry-after": "0"}, None),
        ({"retry-after": "1e999"}, 300),
        ({"retry-after": "1e9"}, 300),
        ({"retry-after": "Thu, 01 Jan 1970 00:00:00 GMT"}, None),
        ({"retry-after": "Thu, 01 Jan 99999 00:00:00 GMT"}, None),
        ({"retry-after": "soon"}, None),
        ({"retry-after": "nan"}, None),
    ],
)
def test_retry_after_in_all_its_forms(headers: dict[str, str], seconds: float | None):
    assert retry_after(headers) == seconds


def test_backoff_grows_to_a_limit_and_is_random():
    assert all(0.5 * 2**n / 2 <= backoff(n) <= 0.5 * 2**n for n in range(6))
    assert 30 <= backoff(1000) <= 60
    assert len({backoff(3) for _ in range(10)}) > 1


@pytest.mark.parametrize("limits", [{"requests_per_minute": 1200}, {"tokens_per_minute": 120_000}])
def test_rate_limits_space_requests(limits: dict[str, float]):
    async def job() -> float:
        limiter = RateLimiter(**limits)
        began = time.monotonic()
        await asyncio.gather(*(limiter.acquire(100) for _ in range(9)))
        return time.monotonic() - began

    assert asyncio.run(job()) >= 8 * 0.05 - 1e-3  # at most 20 requests or 2,000 tokens per second


def test_a_pause_delays_all_requests():
    async def job() -> float:
        limiter = RateLimiter()
        limiter.pause(0.2)
        began = time.monotonic()
        await asyncio.gather(*(limiter.acquire(1) for _ in range(3)))
        return time.monotonic() - began

    assert asyncio.run(job()) >= 0.2 - 1e-3


@pytest.mark.parametrize(
    ("text", "finish", "failure"),
    [
        ("fine", "stop", None),
        ("fi", "length", "cut off: at max_tokens 9"),
        (None, "content_filter", "refused: content filter"),
        ("  ", "stop", "empty answer: finished by stop"),
        (None, None, "empty answer: finished by None"),
    ],
)
def test_how_a_generation_ends(text: str | None, finish: str | None, failure: str | None):
    assert judge(text, finish, 1, 2, 9).failure == failure
