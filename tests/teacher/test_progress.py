"""How far a job is: the remaining time of a resumed job, and what is shown where there is no terminal."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from server_process import ServerProcess
from stored_rows import MODEL, reviews

from fsa_jax.teacher import progress as module
from fsa_jax.teacher.cost import amount
from fsa_jax.teacher.progress import Pace, Progress, duration, shown_progress
from fsa_jax.teacher.store.reader import StoreReader
from fsa_jax.teacher.teach import teach

Serve = Callable[..., ServerProcess]


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "reviews.jsonl"
    path.write_text("\n".join(review.model_dump_json() for review in reviews(40)))
    return path


def test_the_remaining_time_of_a_resumed_job_comes_from_its_own_speed(
    source: Path, tmp_path: Path, serve: Serve, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(module, "TICK_SECONDS", 0.1)
    store, seen = tmp_path / "store", list[Progress]()
    server = serve()
    teach(source, store, MODEL, endpoint=server.url, prompts=["analysis"], limit=24)
    slow = serve("--latency=0.25")
    result = teach(
        source,
        store,
        MODEL,
        endpoint=slow.url,
        prompts=["analysis"],
        in_flight=2,
        price_output=1e6,
        progress=seen.append,
    )
    assert (result.done, result.failed, result.skipped) == (16, 0, 24)
    assert (seen[-1].done, seen[-1].total, seen[-1].seconds_left) == (40, 40, 0)
    assert seen[-1].cost == pytest.approx(result.output_tokens) and result.cost == seen[-1].cost
    halfway = next(one for one in seen if one.done >= 32)
    # 16 requests of 0.25 s, two at a time, take 2 s. At the speed since the first answer of all, it would be far less.
    assert halfway.total == 40 and halfway.seconds_left is not None and 0.3 < halfway.seconds_left < 4
    assert halfway.tokens_per_second > 0 and [one.done for one in seen] == sorted(one.done for one in seen)


def test_pace_is_that_of_the_window():
    pace = Pace(window=10)
    pace.add(0, 0, 0)
    assert pace.speed() == (0, 0)
    for second in range(1, 101):
        pace.add(second, 100 * min(second, 50) + max(0, second - 50), 0)
    assert pace.speed() == (1, 0)
    pace.add(200, 5050, 0)
    pace.add(220, 5050, 0)
    assert pace.speed() == (0, 0)


def test_progress_is_one_line():
    whole = Progress(60_000, 100_000, 3, 1234.5, 1.25, 3.5, 10.0, 4800)
    assert whole.line() == "60,000 of 100,000 requests, 1,234 tokens/s, cost 3.50 of 10.00, 3 failed, 80 min left"
    assert Progress(7, None, 0, 0.0, None, None, None, None).line() == "7 requests, 0 tokens/s"
    assert "cost of this run 0.0012" in Progress(7, None, 0, 0.0, 0.00123, None, None, None).line()
    assert [duration(seconds) for seconds in (5, 600, 12_000, 864_000)] == ["5 s", "10 min", "3 h 20 min", "10.0 days"]
    assert [amount(cost) for cost in (0, 0.25, 1234.5, 0.0123, 0.0000049)] == [
        "0.00",
        "0.25",
        "1,234.50",
        "0.0123",
        "0.000005",
    ]


def test_without_a_terminal_there_is_a_line_from_time_to_time(capsys: pytest.CaptureFixture[str]):
    progress = Progress(1, 2, 0, 3.0, None, None, None, 4.0)
    with shown_progress() as show:
        show(progress)
    assert capsys.readouterr().err == ""
    with shown_progress(plain_seconds=0.0) as show:
        show(progress)
    assert capsys.readouterr().err == "1 of 2 requests, 3 tokens/s, 4 s left\n"


def test_an_error_of_the_progress_function_ends_the_job_and_stays(source: Path, tmp_path: Path, serve: Serve):
    def broken(progress: Progress) -> None:
        raise ZeroDivisionError("mine")

    server, store = serve("--latency=0.1"), tmp_path / "store"
    with pytest.raises(ZeroDivisionError, match="mine"):
        teach(source, store, MODEL, endpoint=server.url, prompts=["analysis"], in_flight=2, progress=broken)
    assert len(list(StoreReader(store))) == server.counts().get("requests", 0) < 40
