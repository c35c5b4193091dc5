"""Real vLLM on this machine with a random two-layer model; runs in the teacher's environment (make test-teacher)."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from stored_rows import reviews

from fsa_jax.teacher.answers import failure_reason
from fsa_jax.teacher.store.parts import StoredGeneration
from fsa_jax.teacher.store.reader import StoreReader

pytestmark = pytest.mark.teacher
pytest.importorskip("vllm", reason="needs the teacher's own environment (make test-teacher)")

ENVIRONMENT = {**os.environ, "VLLM_CPU_KVCACHE_SPACE": "1", "VLLM_NO_USAGE_STATS": "1", "HF_HUB_OFFLINE": "1"}
ENGINE = {"max_model_len": 1024, "dtype": "float32", "enforce_eager": True}
MAX_TOKENS = 12
SAMPLING = ["--max-tokens", str(MAX_TOKENS), "--temperature", "1", "--prompts", '["analysis-no-reasoning"]']
# Some texts of a random model end at an "e", the others at max_tokens. The model sometimes also draws its end-of-text
# token, but not on every processor (floating point), so that token is ignored.
_SETTINGS = {"stop": ["e"], "include_stop_str_in_output": True, "min_tokens": 4, "ignore_eos": True}
STOP = ["--sampling-extra", json.dumps(_SETTINGS)]
SAMPLES = 2
REVIEWS = 40


@dataclass(frozen=True)
class Taught:
    """The answers of the sidecar to the reviews in ``source``, and its log."""

    source: Path
    store: Path
    command: list[str]
    log: str


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from tiny_teacher import build

    return build(tmp_path_factory.mktemp("model"))


def teach(source: Path, store: Path, model: Path | str, *options: str) -> list[str]:
    command = [sys.executable, "-m", "fsa_jax.cli.main", "teach", str(source), str(store), str(model)]
    return [*command, *SAMPLING, *STOP, "--samples", str(SAMPLES), *options]


def engines_of(pid: int) -> list[int]:
    import psutil

    return [child.pid for child in psutil.Process(pid).children(recursive=True) if "EngineCore" in child.name()]


@pytest.fixture(scope="module")
def taught(tmp_path_factory: pytest.TempPathFactory, model: Path) -> Taught:
    """A job of the sidecar whose first engine hangs."""
    folder = tmp_path_factory.mktemp("sidecar")
    source, store, log = folder / "reviews.jsonl", folder / "store", folder / "log"
    lines = [review.model_dump_json() for review in reviews(REVIEWS)]
    lines.append(json.dumps({"id": "long", "text": "so good " * 1000}))
    source.write_text("".join(f"{line}\n" for line in lines))
    command = teach(source, store, model, "--engine-args", json.dumps(ENGINE), "--in-flight=4", "--stall-seconds=20")
    with log.open("wb") as output:
        job = subprocess.Popen(command, env=ENVIRONMENT, stdout=output, stderr=output)
    journal = store / "shard-00000-of-00001" / "journal-00000000.jsonl"
    while not (journal.exists() and journal.stat().st_size):
        assert job.poll() is None, log.read_text()
        time.sleep(0.05)
    (engine,) = engines_of(job.pid)
    os.kill(engine, signal.SIGSTOP)  # hung: it does nothing and reacts only to SIGKILL
    assert job.wait(timeout=600) == 0, log.read_text()[-3000:]
    return Taught(source, store, command, log.read_text())


def rows_by_key(store: Path) -> dict[bytes, StoredGeneration]:
    """The rows of a store, each checked to be an answer or a failure with the right reason."""
    rows = {row.key: row for row in StoreReader(store)}
    assert len(rows) == SAMPLES * (REVIEWS + 1)
    for row in rows.values():
        reason = None if row.failure is None else failure_reason(row.failure)
        if row.review_id == "long":
            assert reason == "too long" and row.text is None
        elif reason == "cut off":
            assert row.failure == f"cut off: at max_tokens {MAX_TOKENS}" and row.output_tokens == MAX_TOKENS
        else:
            assert reason is None and row.text and row.text.endswith("e"), row
            assert row.input_tokens and row.output_tokens and 4 <= row.output_tokens <= MAX_TOKENS
    return rows


def test_the_sidecar_answers_and_survives_a_hung_engine(taught: Taught):
    assert "restarting it (1 of 3)" in taught.log
    rows = rows_by_key(taught.store).values()
    assert {row.failure and failure_reason(row.failure) for row in rows} == {None, "cut off", "too long"}
    assert all(row.teacher_revision and row.teacher_revision.startswith("local-") for row in rows)


def test_no_engine_starts_if_nothing_is_missing(taught: Taught):
    again = subprocess.run(taught.command, env=ENVIRONMENT, capture_output=True, text=True)
    assert again.returncode == 0 and "82 were stored before" in again.stdout, again.stderr[-3000:]
    assert "EngineCore" not in again.stdout + again.stderr


@pytest.fixture
def served(model: Path, tmp_path: Path) -> Iterator[str]:
    """A running ``vllm serve``."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    # The module behind `vllm serve`: the command itself needs a distribution named vllm, and this one is vllm-cpu.
    command = [sys.executable, "-m", "vllm.entrypoints.openai.api_server", "--model", str(model)]
    command += ["--host", "127.0.0.1", "--port", str(port), "--max-model-len", "1024", "--dtype", "float32"]
    command += ["--enforce-eager", "--no-enable-chunked-prefill"]  # the second for the seeds, see docs/teacher.md
    log = tmp_path / "serve.log"
    with log.open("wb") as output:
        server = subprocess.Popen(command, env=ENVIRONMENT, stdout=output, stderr=output)
    try:
        while True:
            assert server.poll() is None, log.read_text()[-3000:]
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=2).close()
                break
            except OSError:
                time.sleep(0.5)
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        server.terminate()
        server.wait(timeout=60)


def test_an_endpoint_of_vllm_serve_answers_as_the_sidecar_does(
    served: str, taught: Taught, model: Path, tmp_path: Path
):
    direct = rows_by_key(taught.store)
    revision = next(iter(direct.values())).teacher_revision
    assert revision is not None
    store = tmp_path / "store"
    # The keys depend on the name and revision, and the seeds of the draws depend on the keys.
    command = teach(taught.source, store, model, "--teacher-revision", revision, "--endpoint", served, "--in-flight=8")
    run = subprocess.run(command, env=ENVIRONMENT, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr[-3000:]
    through_http = rows_by_key(store)
    assert {key: row.text for key, row in through_http.items()} == {key: row.text for key, row in direct.items()}
    unknown = teach(taught.source, tmp_path / "other", "giant", "--endpoint", served)
    run = subprocess.run(unknown, env=ENVIRONMENT, capture_output=True, text=True)
    assert run.returncode == 2 and "no model 'giant'" in run.stderr
