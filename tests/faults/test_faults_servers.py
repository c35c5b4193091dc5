"""Misbehaving servers: the job ends or continues, every request is counted, and no API key is shown or stored."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from campaign import Campaign
from damage import damaged
from hostile_server import MODEL, MODES, HostileServer, hostile_server

from fsa_base.errors import FsaError, SettingError, TeacherError
from fsa_jax.cli import teach
from fsa_jax.cli.main import main
from fsa_jax.teacher.answers import FAILURES, failure_reason
from fsa_jax.teacher.store.parts import StoredGeneration
from fsa_jax.teacher.store.reader import StoreReader

KEY = "sk-Never/Shown+42"
REVIEWS = 4
Read = Callable[[], str]


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[HostileServer]:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    with hostile_server() as running:
        yield running


@pytest.fixture
def read(capsys: pytest.CaptureFixture[str]) -> Read:
    """Everything that was printed since the last call."""
    return lambda: "".join(capsys.readouterr())


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "reviews.jsonl"
    lines = [json.dumps({"id": f"r{i}", "text": f"Visit {i}: lovely soup."}) for i in range(REVIEWS)]
    path.write_text("\n".join(lines))
    return path


def run(server: HostileServer, source: Path, store: Path, **options: object) -> int:
    """Runs one job with one attempt per request; raises the error that the command would print."""
    defaults = {"max_attempts": 1, "request_timeout": 0.4, "in_flight": REVIEWS, "prompts": ["analysis"]}
    settings: dict[str, Any] = {**defaults, "endpoint": server.url, **options}
    return teach.command(str(source), store, MODEL, **settings)


def rows(store: Path) -> list[StoredGeneration]:
    return list(StoreReader(store)) if list(store.glob("shard-*/[jp]*")) else []


def require_no_key(store: Path, printed: str) -> None:
    """Checks that neither the key nor a large part of it was printed or stored."""
    stored = b"".join(path.read_bytes() for path in store.rglob("*") if path.is_file())
    texts = "".join(f"{row.text} {row.failure} {row.teacher}" for row in rows(store))
    for part in (KEY, KEY[:12], KEY[4:]):
        assert part.casefold() not in (printed + texts).casefold(), printed + texts
        assert part.encode() not in stored


def teach_on(server: HostileServer, source: Path, store: Path, read: Read) -> str:
    """Continues a store of one answer with a bad server, then with a good one; returns the outcome of the bad one."""
    server.elsewhere = []
    try:
        stopped = "" if run(server, source, store) == 0 else "status"
    except FsaError as error:
        stopped = str(error)
    assert not server.elsewhere, "a redirect was followed"
    found, printed = rows(store), read() + stopped
    answered = [row for row in found if row.failure is None]
    failures = len(found) - len(answered)
    if not stopped:
        assert len(found) == REVIEWS, "rows are missing"
        assert f"{len(answered) - 1:,} answers and {failures:,} failures stored" in printed
    for row in found:
        assert row.failure is None or failure_reason(row.failure) in FAILURES
        own = f"Answer about visit {row.review_id[1:]}."
        assert row.failure is not None or (row.text and (own in row.text or row.text == "x")), row
    server.mode = "good"
    assert run(server, source, store, retry_failed=True, request_timeout=30) == 0
    after = {row.key: row for row in rows(store)}
    assert len(after) == REVIEWS == len(rows(store)) and all(row.failure is None for row in after.values())
    assert all(after[row.key].text == row.text for row in answered), "a stored answer changed"
    require_no_key(store, printed + read())
    return "stopped with an error" if stopped else "failures counted" if failures else "answered"


def test_no_mode_of_a_server_breaks_a_job(
    campaign: Campaign, server: HostileServer, source: Path, tmp_path: Path, read: Read
):
    """Each mode of the hostile server once."""
    assert len(MODES) > 20
    first = tmp_path / "first"
    assert run(server, source, first, limit=1) == 0
    for number, mode in enumerate(MODES):
        server.mode, store = mode, tmp_path / str(number)
        shutil.copytree(first, store)
        campaign.run(mode, lambda store=store: teach_on(server, source, store, read))


def test_damaged_answers_never_break_a_job(
    campaign: Campaign,
    server: HostileServer,
    source: Path,
    tmp_path: Path,
    read: Read,
    cases: Callable[[int, int], int],
    rng: random.Random,
):
    """Damaged bytes of good answers, in jobs of one request each with one store."""
    first, store = tmp_path / "first", tmp_path / "store"
    assert run(server, source, first, limit=1) == 0
    server.mode = "raw"

    def attempt(seed: int) -> str:
        server.raw = lambda good: damaged(good, random.Random(seed))[1]
        stopped = ""
        try:
            assert run(server, source, store, seed=seed, limit=1) == 0
        except TeacherError as error:
            stopped = str(error)
        mine = [row for row in rows(store) if row.seed == seed]
        assert len(mine) == (not stopped)
        require_no_key(store, read() + stopped)
        return "stopped with an error" if stopped else "failure counted" if mine[0].failure else "answered"

    for number in range(cases(12, 1000)):
        if number % 50 == 0:  # A job merges the parts of the jobs before it.
            shutil.rmtree(store, ignore_errors=True)
            shutil.copytree(first, store)
        seed = rng.randrange(1, 1 << 30)
        campaign.run(f"seed {seed}", lambda seed=seed: attempt(seed))


@pytest.mark.parametrize("status", [300, 301, 302, 303, 307, 308])
def test_redirects_are_refused_before_the_first_answer_and_after(
    server: HostileServer, source: Path, tmp_path: Path, status: int
):
    """Following 301 and 302 would store the answer of a GET; following 307 and 308 would send the review elsewhere."""
    store = tmp_path / "store"
    for _ in range(2):
        server.mode = f"redirect {status}"
        with pytest.raises(TeacherError, match=rf"{status}.*redirects to http://127.0.0.1:\d+/v1,|/v1, and") as raised:
            run(server, source, store)
        assert server.elsewhere == [] and "--endpoint http://127.0.0.1:" in raised.value.fix
        before, server.mode = rows(store), "good"
        assert run(server, source, store, limit=len(before) + 1) == 0
    assert [row.text for row in rows(store)] == ["Answer about visit 0.", "Answer about visit 1."]


def test_a_repeated_answer_is_not_used_for_the_next_review(server: HostileServer, source: Path, tmp_path: Path):
    """If the connection were used again, the second copy would be read as the answer to the next request."""
    server.mode = "answered twice"
    assert run(server, source, tmp_path / "store", in_flight=1) == 0
    texts = {row.review_id: row.text for row in rows(tmp_path / "store")}
    assert texts == {f"r{i}": f"Answer about visit {i}." for i in range(REVIEWS)}


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("sk-half\nsecret-half", "white space at character 8"),
        ("sk-half secret", "white space"),
        ("sk-half\x07secret", "a control character"),
        ("sk-hälfte-secret", "non-ASCII"),
        ("“sk-half-secret”", "non-ASCII at character 1"),
    ],
)
def test_keys_with_invalid_characters_are_refused_and_not_shown(
    server: HostileServer,
    source: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    read: Read,
    value: str,
    said: str,
):
    """An error of the HTTP client would contain such a key and be stored with every row."""
    monkeypatch.setenv("MY_KEY", value)
    command = ["teach", str(source), str(tmp_path / "store"), MODEL, "--endpoint", server.url]
    assert main([*command, "--api-key-variable", "MY_KEY"]) == 2
    printed = read()
    assert "MY_KEY" in printed and said in printed and "half" not in printed
    assert server.requests == 0 and not (tmp_path / "store").exists()


def test_white_space_around_a_key_is_removed(
    server: HostileServer, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """A key from a file may end with a newline."""
    monkeypatch.setenv("OPENAI_API_KEY", f"\t{KEY}\r\n")
    server.mode = "key in the answer"
    assert run(server, source, tmp_path / "store") == 0
    require_no_key(tmp_path / "store", "")


def test_an_answer_with_the_key_is_redacted_and_counted(
    server: HostileServer, source: Path, tmp_path: Path, read: Read
):
    server.mode = "key in the answer"
    assert run(server, source, tmp_path / "store") == 0
    assert f"{REVIEWS} answers had the API key in them" in read()
    assert "[key removed]" in str(rows(tmp_path / "store")[0].text)


@pytest.mark.parametrize("mode", ["good", "key in an error", "silence", "redirect 307"])
def test_passwords_in_urls_are_not_shown(server: HostileServer, source: Path, tmp_path: Path, read: Read, mode: str):
    """``user:password@host`` and ``?api_key=`` are sent but never printed."""
    server.mode = mode
    url = server.url.replace("://", f"://somebody:{KEY.replace('/', '%2F')}@") + f"?api_key={KEY}"
    command = ["teach", str(source), str(tmp_path / "store"), MODEL, "--endpoint", url, "--prompts", '["analysis"]']
    assert main([*command, "--max-attempts", "1", "--request-timeout", "0.4"]) == (0 if mode == "good" else 2)
    printed = read()
    require_no_key(tmp_path / "store", printed)
    assert "c29tZWJvZHk6c2st" not in printed  # base64 of "somebody:sk-"
    with pytest.raises(SettingError) as raised:
        run(server, source, tmp_path / "other", endpoint=url.removeprefix("http://"))
    assert KEY[4:] not in str(raised.value) and "%2FShown" not in str(raised.value)


def test_an_attempt_ends_at_its_time_limit_even_if_bytes_come_slowly(
    server: HostileServer, source: Path, tmp_path: Path
):
    """A time limit per read is not enough: an attempt that receives a byte from time to time would never end."""
    assert run(server, source, tmp_path / "store", limit=1) == 0
    server.mode = "a byte at a time"
    assert run(server, source, tmp_path / "store") == 0
    failures = [row.failure for row in rows(tmp_path / "store") if row.failure]
    assert failures == ["engine error: no complete answer within 0.4 s (after 1 attempts)"] * (REVIEWS - 1)


@pytest.mark.parametrize("when", ["with a time in the past", "with no time", "with a negative time", "with garbage"])
def test_requests_are_delayed_after_a_429_without_a_time_to_wait(
    server: HostileServer, source: Path, tmp_path: Path, when: str
):
    """Without a delay there were 1,023 requests in 25 s, and none of them counted as an attempt."""
    assert run(server, source, tmp_path / "store", limit=1) == 0
    server.requests, server.mode = 0, f"429 {when}"
    assert run(server, source, tmp_path / "store", max_attempts=2) == 0
    assert server.requests == 2 * (REVIEWS - 1)


def test_large_bodies_are_not_read(server: HostileServer, source: Path, tmp_path: Path):
    """The size of a body is limited both before and after decompression."""
    assert run(server, source, tmp_path / "store", limit=1) == 0
    for seed, mode in enumerate(["a huge body", "an answer without end", "gzip bomb"]):
        server.mode = mode
        assert run(server, source, tmp_path / "store", seed=seed, request_timeout=30, limit=2, retry_failed=True) == 0
    failures = [row.failure for row in rows(tmp_path / "store") if row.failure]
    assert len(failures) >= 3 and all("a body of over 4 MiB" in str(failure) for failure in failures)


@pytest.mark.parametrize(("mode", "number"), [("429 for an hour", signal.SIGTERM), ("silence", signal.SIGINT)])
def test_a_signal_ends_a_waiting_job_and_loses_nothing(
    server: HostileServer, source: Path, tmp_path: Path, mode: str, number: signal.Signals
):
    """SIGTERM during a long Retry-After, or while a server does not answer."""
    store = tmp_path / "store"
    assert run(server, source, store, limit=2) == 0
    server.mode, server.requests = mode, 0
    command = [sys.executable, "-m", "fsa_jax.cli.main", "teach", str(source), str(store), MODEL]
    command += ["--endpoint", server.url, "--prompts", '["analysis"]', "--stop-seconds", "1"]
    job = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    while server.requests < REVIEWS - 2:
        assert job.poll() is None
        time.sleep(0.05)
    os.kill(job.pid, number)
    printed, _ = job.communicate(timeout=60)
    assert job.returncode == 1 and "Traceback" not in printed, printed
    assert f"stopped early, {number.name}" in printed
    assert ("2 requests were sent but not waited for" in printed) == (mode == "silence")
    assert sorted(str(row.text) for row in rows(store)) == ["Answer about visit 0.", "Answer about visit 1."]
    server.mode, server.requests = "good", 0
    assert run(server, source, store) == 0
    assert server.requests == REVIEWS - 2 and len(rows(store)) == REVIEWS
