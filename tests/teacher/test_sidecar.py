"""Real vLLM on this machine, with a random two-layer model: in the teacher's own environment (make test-teacher)."""

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
from pathlib import Path

import pytest
from stored_rows import reviews

from fsa_jax.teacher.store import StoreReader, generations

pytestmark = pytest.mark.teacher
pytest.importorskip("vllm", reason="needs the teacher's own environment (make test-teacher)")

ENVIRONMENT = {**os.environ, "VLLM_CPU_KVCACHE_SPACE": "1", "VLLM_NO_USAGE_STATS": "1", "HF_HUB_OFFLINE": "1"}
ENGINE = {"max_model_len": 1024, "dtype": "float32", "enforce_eager": True}
SAMPLING = ["--max-tokens", "24", "--temperature", "1", "--prompts", '["analysis-no-reasoning"]']
# A random model never ends its text by itself.
STOP = ["--sampling-extra", json.dumps({"stop": ["e", "a", " "], "include_stop_str_in_output": True})]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from tiny_teacher import build

    return build(tmp_path_factory.mktemp("model"))


def teach(source: Path, store: Path, model: Path | str, *options: str) -> list[str]:
    command = [sys.executable, "-m", "fsa_jax.cli.main", "teach", str(source), str(store), str(model)]
    return [*command, *SAMPLING, *STOP, *options]


def write(path: Path, count: int) -> Path:
    path.write_text("".join(review.model_dump_json() + "\n" for review in reviews(count)))
    return path


def children(pid: int) -> list[int]:
    import psutil

    return [child.pid for child in psutil.Process(pid).children(recursive=True) if "EngineCore" in child.name()]


def test_sidecar_answers_resumes_and_survives_a_hung_engine(tmp_path: Path, model: Path):
    source, store = write(tmp_path / "reviews.jsonl", 40), tmp_path / "store"
    with source.open("a") as file:
        file.write(json.dumps({"id": "long", "text": "so good " * 1000}) + "\n")
    options = ["--engine-args", json.dumps(ENGINE), "--in-flight", "4", "--stall-seconds", "20", "--samples", "2"]
    log = tmp_path / "log"
    with log.open("wb") as output:
        job = subprocess.Popen(teach(source, store, model, *options), env=ENVIRONMENT, stdout=output, stderr=output)
    journal = store / "shard-00000-of-00001" / "journal-00000000.jsonl"
    while not (journal.exists() and journal.stat().st_size):
        assert job.poll() is None, log.read_text()
        time.sleep(0.05)
    (engine,) = children(job.pid)
    os.kill(engine, signal.SIGSTOP)  # hung: it does nothing, and answers no signal but one
    assert job.wait(timeout=600) == 0, log.read_text()[-3000:]
    assert "restarting it (1 of 3)" in log.read_text()
    rows = list(generations(store))
    assert len(rows) == 82 and sum(row.text is not None for row in rows) >= 70
    long = [row.failure for row in rows if row.review_id == "long"]
    assert [failure and failure.partition(":")[0] for failure in long] == ["too long"] * 2
    assert all(row.teacher_revision and row.teacher_revision.startswith("local-") for row in rows)
    # Everything is there: no engine is started for a single request.
    again = subprocess.run(teach(source, store, model, *options), env=ENVIRONMENT, capture_output=True, text=True)
    assert again.returncode == 0 and "82 were there already" in again.stdout, again.stderr[-3000:]
    assert "EngineCore" not in again.stdout + again.stderr


@pytest.fixture
def served(model: Path, tmp_path: Path) -> Iterator[str]:
    """A running ``vllm serve``."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [str(Path(sys.executable).with_name("vllm")), "serve", str(model), "--served-model-name", "tiny"]
    command += ["--host", "127.0.0.1", "--port", str(port), "--max-model-len", "1024", "--dtype", "float32"]
    log = tmp_path / "serve.log"
    with log.open("wb") as output:
        server = subprocess.Popen([*command, "--enforce-eager"], env=ENVIRONMENT, stdout=output, stderr=output)
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


def test_endpoint_against_vllm_serve(served: str, tmp_path: Path):
    source, store = write(tmp_path / "reviews.jsonl", 30), tmp_path / "store"
    with source.open("a") as file:
        file.write(json.dumps({"id": "long", "text": "so good " * 1000}) + "\n")
    command = teach(source, store, "tiny", "--endpoint", served, "--in-flight", "8")
    run = subprocess.run(command, env=ENVIRONMENT, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr[-3000:]
    rows = {row.review_id: row for row in StoreReader(store)}
    assert len(rows) == 31 and sum(row.failure is None for row in rows.values()) >= 25
    assert (rows["long"].failure or "").startswith("too long")
    assert all(row.input_tokens for name, row in rows.items() if name != "long")
    unknown = teach(source, tmp_path / "other", "giant", "--endpoint", served)
    run = subprocess.run(unknown, env=ENVIRONMENT, capture_output=True, text=True)
    assert run.returncode == 2 and "no model 'giant'" in run.stderr
