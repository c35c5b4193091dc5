"""``fsa teach --preview``."""

from __future__ import annotations

import json
import os
import pty
import re
import shlex
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Callable
from fcntl import ioctl
from pathlib import Path

import pytest
from hostile_server import completion, hostile_server, reply
from server_process import ServerProcess
from stored_rows import MODEL, reviews

from fsa_jax.cli.main import main
from fsa_jax.teacher.store.reader import StoreReader

Serve = Callable[..., ServerProcess]
COUNT = 12


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "the reviews.jsonl"
    path.write_text("\n".join(review.model_dump_json() for review in reviews(COUNT)))
    return path


def options(source: Path, store: Path, url: str, *more: str) -> list[str]:
    return ["teach", str(source), str(store), MODEL, "--endpoint", url, "--prompts", '["analysis"]', *more]


def test_preview_shows_the_first_requests_stores_them_and_says_how_to_go_on(
    source: Path, tmp_path: Path, serve: Serve, capsys: pytest.CaptureFixture[str]
):
    server, store = serve(), tmp_path / "store"
    command = options(source, store, server.url, "--price-output", "1000", "--preview", "3")
    assert main(command) == 0
    printed = capsys.readouterr().out
    rows = list(StoreReader(store))
    assert server.counts()["requests"] == 3 == len(rows) and {row.review_id for row in rows} == {"r0", "r1", "r2"}
    assert all(str(row.text) in printed for row in rows)
    assert all(f"Visit {number}: lovely soup, slow waiter." in printed for number in range(3))
    assert printed.count("You read customer reviews closely") == 1 and printed.count("as above") == 2
    assert printed.count("-> parsed: 1 opinion") == 3 and "understands 3 of 3 analyses" in printed
    spent = sum(row.output_tokens or 0 for row in rows)
    assert f"{spent:,} output tokens; cost: {spent / 1000:.2f}" in printed
    assert "sent now: 3, stored before: 0" in printed
    assert f"cost: {spent * 3 / 1000:.2f} (1000 per million output tokens)" in printed  # 9 requests are missing

    assert main(command) == 0
    again = capsys.readouterr().out
    assert server.counts()["requests"] == 3 and "sent now: 0, stored before: 3" in again
    assert all(str(row.text) in again for row in rows)

    (go_on,) = re.findall(r"to send the other 9 requests:\n  (fsa teach .*)", again)
    assert main(shlex.split(go_on)[1:]) == 0
    assert server.counts()["requests"] == COUNT
    assert main(command) == 0
    assert "these are all requests of the job" in capsys.readouterr().out


def test_preview_shows_failures_and_what_the_parser_does_not_understand(source: Path, tmp_path: Path, capsys):
    store = tmp_path / "store"
    texts = ["I am sorry, I can not do that.", "Opinion Target 1: soup\nSentiment: Tasty"]

    def answer(good: bytes) -> bytes:
        return reply(completion(texts[0] if b"visit 0." in good else texts[1]))

    with hostile_server() as server:
        server.mode, server.raw = "raw", answer
        assert main(options(source, store, server.url, "--preview", "2")) == 0
        printed = capsys.readouterr().out
        assert "NOT parsed: no opinion found\n" in printed and texts[0] in printed
        assert "NOT parsed: no opinion found (1 with unknown sentiment 'Tasty')" in printed
        assert "understands 0 of 2 analyses" in printed
        server.mode = "content filter"
        assert main(options(source, store, server.url, "--preview", "1", "--seed", "1")) == 0
        printed = capsys.readouterr().out
        assert "answer: FAILED" in printed and "refused: content filter" in printed
        assert "0 answers, 1 failures; sent now: 1" in printed


HOSTILE = "[bold red]soup[/] [link=file:///etc]x[/link] :smile: \u202egnitirw\u2066 \x1b[2J\x9b31m \x07 \u200b end"


def test_hostile_text_in_a_preview_is_shown_and_does_nothing(tmp_path: Path, capsys):
    source, store = tmp_path / "[x].jsonl", tmp_path / "store"
    source.write_text(json.dumps({"id": "r\u202e1[/]", "text": f"Visit 0: {HOSTILE}"}))
    with hostile_server() as server:
        server.mode, server.raw = "raw", lambda good: reply(completion(f"Answer 0: {HOSTILE}"))
        assert main(options(source, store, server.url, "--preview", "1")) == 0
    printed = capsys.readouterr().out
    assert all(character.isprintable() or character == "\n" for character in printed)
    for part in ("[bold red]soup[/] [link=file:///etc]x[/link] :smile: \\u202egnitirw\\u2066", "r\\u202e1[/]"):
        assert part in printed
    assert printed.count("[bold red]soup[/]") == 2


def test_a_preview_on_a_wide_terminal_has_two_columns(source: Path, tmp_path: Path, serve: Serve):
    leader, follower = pty.openpty()
    ioctl(follower, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 140, 0, 0))
    command = options(source, tmp_path / "store", serve().url, "--preview", "1")
    environment = {**os.environ, "TERM": "xterm", "NO_COLOR": "1"} | {"COLUMNS": "140"}
    process = subprocess.Popen([sys.executable, "-m", "fsa_jax.cli.main", *command], stdout=follower, env=environment)
    os.close(follower)
    printed = b""
    try:
        while piece := os.read(leader, 65536):
            printed += piece
    except OSError:
        pass  # Linux reports the end of a terminal as an error
    os.close(leader)
    assert process.wait() == 0
    lines = re.sub(r"\x1b\[[0-9;]*m", "", printed.decode()).splitlines()
    assert any(re.match(r"\[prompt: user\] {10,}\[answer\]", line) for line in lines)
    assert any(re.match(r"Visit 0: lovely soup, slow waiter\. {10,}Aspect: Quality", line) for line in lines)


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        (["--preview", "0"], "expected a number of at least 1"),
        (["--preview", "2", "--dry-run"], "expected no --dry-run"),
    ],
)
def test_unusable_previews_are_refused(source: Path, tmp_path: Path, capsys, more: list[str], expected: str):
    assert main(options(source, tmp_path / "store", "http://127.0.0.1:1/v1", *more)) == 2
    assert expected in capsys.readouterr().err


def test_an_interrupted_preview_says_what_is_paid_again(source: Path, tmp_path: Path, serve: Serve):
    server = serve("--latency=30")
    command = options(source, tmp_path / "store", server.url, "--preview", "3", "--stop-seconds", "0.1")
    process = subprocess.Popen(
        [sys.executable, "-m", "fsa_jax.cli.main", *command], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    while server.counts().get("requests") != 3:
        assert process.poll() is None
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    printed, _ = process.communicate(timeout=30)
    assert process.returncode == 1 and "stopped early, SIGINT" in printed
    assert "3 requests were sent but not waited for: they are sent and paid again" in printed


def test_the_command_that_goes_on_shows_no_password(source: Path, tmp_path: Path, capsys):
    with hostile_server() as server:
        url = server.url.replace("://", "://user:pass-word-1@")
        assert main(options(source, tmp_path / "store", url, "--preview", "1")) == 0
    printed = "".join(capsys.readouterr())
    assert "the same command without --preview" in printed and "pass-word-1" not in printed
