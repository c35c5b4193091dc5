"""``teach``: the command ``fsa teach`` as a function."""

from __future__ import annotations

import asyncio
import inspect
import os
import signal
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from server_process import ServerProcess
from stored_rows import MODEL, reviews

from fsa_base.errors import DataError, SettingError, TeacherError
from fsa_jax.cli.teach import command
from fsa_jax.teacher.results import TeachResult
from fsa_jax.teacher.store.reader import StoreReader
from fsa_jax.teacher.teach import teach

Serve = Callable[..., ServerProcess]
NUMBERS = (
    *("limit", "in_flight", "preview", "samples", "temperature", "top_p", "max_tokens", "max_review_characters"),
    *("max_consecutive_errors", "tensor_parallel", "pipeline_parallel", "max_tokens_total", "max_cost", "devices"),
    *("max_restarts", "stop_seconds", "tokens_per_second", "requests_per_minute", "tokens_per_minute", "stall_seconds"),
)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "reviews.jsonl"
    path.write_text("\n".join(review.model_dump_json() for review in reviews(20)))
    return path


def test_teach_as_a_function_has_the_options_of_the_command():
    of_command = {name: one.default for name, one in inspect.signature(command).parameters.items()}
    of_function = {name: one.default for name, one in inspect.signature(teach).parameters.items()}
    assert {**of_command, "progress": None, "say": None} == of_function


def test_it_prints_nothing_and_returns_counts_tokens_and_cost(source: Path, tmp_path: Path, serve: Serve, capfd):
    server, store = serve("--empty=0.3"), tmp_path / "store"
    result = teach([source], str(store), MODEL, endpoint=server.url, prompts=["analysis"], price_output=1e6)
    rows = list(StoreReader(store))
    assert result.done == sum(row.failure is None for row in rows) and result.done + result.failed == 20
    assert result.failures == {"empty answer": result.failed} and result.stopped is None
    assert result.output_tokens == sum(row.output_tokens or 0 for row in rows) == result.cost
    again = teach(source, store, MODEL, endpoint=server.url, prompts=["analysis"], limit=5)
    assert (again.done, again.failed, again.skipped, again.cost) == (0, 0, 5, 0.0)
    dry = teach(source, store, MODEL, endpoint=server.url, prompts=["analysis"], seed=1, dry_run=True)
    assert dry.estimate is not None and dry.estimate.requests == 20 and dry.done == 0
    looked = teach(source, store, MODEL, endpoint=server.url, prompts="analysis", preview=2)
    assert looked.preview is not None and [one.review_id for one in looked.preview.requests] == ["r0", "r1"]
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"endpoint": "http://127.0.0.1:1/v1", "max_attempts": 1}, TeacherError),
        ({"engine": "endpoint"}, SettingError),
        ({"endpoint": "http://127.0.0.1:1/v1", "reviews": "nowhere.parquet"}, DataError),
        ({"endpoint": "http://127.0.0.1:1/v1", "price_input": -1.0}, SettingError),
        ({"engine": "foo"}, SettingError),
        ({"token_limit_field": "foo"}, SettingError),
        *(({name: -1}, SettingError) for name in NUMBERS),
        *(({name: float("nan")}, SettingError) for name in NUMBERS),
        *(({name: 0}, SettingError) for name in ("limit", "requests_per_minute", "tokens_per_second")),
    ],
)
def test_its_errors_are_those_of_the_command(source: Path, tmp_path: Path, changes: dict, error: type[Exception]):
    with pytest.raises(error) as raised:
        teach(**{"reviews": source, "store": tmp_path / "store", "teacher": MODEL, **changes})
    option = f"--{next(reversed(changes)).replace('_', '-')}"
    assert error is not SettingError or option == "--engine" or str(raised.value).startswith(f"{option}: ")


def in_a_loop(source: Path, store: Path, url: str) -> TeachResult:
    async def cell() -> TeachResult:
        return teach(source, store, MODEL, endpoint=url, prompts=["analysis"], in_flight=1, stop_seconds=5)

    return asyncio.new_event_loop().run_until_complete(cell())


def test_in_a_notebook_it_works_and_ctrl_c_ends_the_job(source: Path, tmp_path: Path, serve: Serve):
    assert in_a_loop(source, tmp_path / "store", serve().url).done == 20
    store, before = tmp_path / "other", signal.getsignal(signal.SIGINT)
    timer = threading.Timer(1.0, os.kill, (os.getpid(), signal.SIGINT))
    timer.start()
    result = in_a_loop(source, store, serve("--latency=0.2").url)
    assert result.stopped == "SIGINT" and 0 < result.done == len(list(StoreReader(store))) < 20
    assert result.unanswered == 0 and signal.getsignal(signal.SIGINT) is before


def test_in_the_main_thread_ctrl_c_ends_the_job_and_own_handlers_come_back(source: Path, tmp_path: Path, serve: Serve):
    own = signal.signal(signal.SIGTERM, lambda *_: None)
    mine = signal.getsignal(signal.SIGTERM)
    try:
        timer = threading.Timer(1.0, os.kill, (os.getpid(), signal.SIGTERM))
        timer.start()
        url, said = serve("--latency=0.2").url, list[str]()
        store = tmp_path / "store"
        result = teach(source, store, MODEL, endpoint=url, prompts=["analysis"], in_flight=1, say=said.append)
        assert result.stopped == "SIGTERM" and 0 < result.done < 20
        assert said == [
            f"asking {MODEL} at {url}",
            "SIGTERM: waiting 20 s for answers in flight; repeat it to stop at once",
        ]
        assert signal.getsignal(signal.SIGTERM) is mine
    finally:
        signal.signal(signal.SIGTERM, own)


def test_in_another_thread_it_leaves_signals_alone(source: Path, tmp_path: Path, serve: Serve):
    url, found = serve().url, list[TeachResult]()
    thread = threading.Thread(
        target=lambda: found.append(teach(source, tmp_path / "store", MODEL, endpoint=url, prompts=["analysis"]))
    )
    thread.start()
    thread.join()
    assert found[0].done == 20
