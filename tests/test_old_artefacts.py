"""Files written by commit 528859f (tests/testdata/v528859f) are read and resumed, and no request is sent again."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tarfile
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet
import pytest

from fsa_jax.cli.main import main
from fsa_jax.teacher.store.reader import generations

ROOT = Path(__file__).parents[1]
OLD = ROOT / "tests" / "testdata" / "v528859f"
MODEL = "test-teacher"
TASK = "fsa_atsa_rest14"


@pytest.fixture(scope="module")
def recorded() -> dict[str, Any]:
    """The recorded results of 528859f with the artefacts."""
    return json.loads((OLD / "recorded.json").read_text())


@pytest.fixture
def old(tmp_path: Path) -> Path:
    """A folder with all artefacts."""
    for file in OLD.glob("*.tar.xz"):
        with tarfile.open(file) as archive:
            archive.extractall(tmp_path, filter="data")
    return tmp_path


@pytest.fixture
def server() -> Iterator[str]:
    """The root address of a server that counts requests."""
    command = [sys.executable, str(ROOT / "benchmarks" / "teacher_server.py")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        yield f"http://127.0.0.1:{process.stdout.readline().strip()}"
        process.kill()


def requests_of(server: str) -> int:
    with urllib.request.urlopen(f"{server}/count") as response:
        return json.load(response).get("requests", 0)


def teach(old: Path, store: Path, server: str) -> None:
    arguments = ["teach", str(old / "reviews.parquet"), str(store), MODEL, "--endpoint", f"{server}/v1"]
    assert main([*arguments, "--in-flight", "4"]) == 0


def kept(checked: Path) -> dict[tuple[str, str], str]:
    """The kept texts by review and form."""
    rows = pyarrow.parquet.read_table(checked / "kept").to_pylist()
    return {(row["review_id"], row["understanding"]): row["response"] for row in rows}


def test_no_request_of_a_finished_store_is_sent_again(old: Path, server: str, recorded: dict) -> None:
    before = {(row.review_id, row.prompt_hash): row.text for row in generations(old / "store")}
    assert len(before) == recorded["requests"] == 98
    teach(old, old / "store", server)
    assert requests_of(server) == 0
    assert {(row.review_id, row.prompt_hash): row.text for row in generations(old / "store")} == before


def test_an_unfinished_store_sends_only_missing_requests(old: Path, server: str) -> None:
    store = old / "unfinished_store"
    before = {(row.review_id, row.prompt_hash): row.text for row in generations(store)}
    assert 40 < len(before) < 98
    teach(old, store, server)
    assert requests_of(server) == 98 - len(before)
    after = [((row.review_id, row.prompt_hash), row.text) for row in generations(store)]
    assert len(after) == len(dict(after)) == 98
    assert before.items() <= dict(after).items()


def test_the_old_store_is_checked(old: Path) -> None:
    arguments = ["check", str(old / "store"), str(old / "checked_now"), "--reviews", str(old / "reviews.parquet")]
    main([*arguments, "--workers", "1"])
    counts = [pyarrow.parquet.read_table(old / "checked_now" / part).num_rows for part in ("kept", "dropped")]
    assert sum(counts) == 98
    assert json.loads((old / "checked_now" / "check.json").read_text("utf-8"))["skipped"] == {}
    assert kept(old / "checked_now") == kept(old / "checked")


def test_the_old_check_gives_the_old_corpus_and_tasks_read_it(old: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import seqio

    import tasks  # noqa: F401

    main(["corpus", str(old / "checked"), str(old / "now" / "corpus"), "--held_out", "4"])
    read: list[dict[tuple[str, str], str]] = []
    for data in (old / "data", old / "now"):
        monkeypatch.setenv("FSA_DATA_DIR", str(data))
        rows: dict[tuple[str, str], str] = {}
        for form in ("analysis", "rewriting"):
            source = seqio.TaskRegistry.get(f"fsa_corpus_{form}").source
            for split in ("train", "validation"):
                examples = list(source.get_dataset(split, shuffle=False).as_numpy_iterator())
                assert examples
                rows |= {(row["id"].decode(), form): row["targets"].decode() for row in examples}
        read.append(rows)
    assert read[0] == read[1] == kept(old / "checked")


def test_the_old_training_continues_with_the_recorded_losses(old: Path, recorded: dict) -> None:
    steps = {int(step): loss for step, loss in recorded["losses"].items()}
    environment = {**os.environ, "FSA_DATA_DIR": str(old / "data"), "FSA_VOCAB": str(old / "spiece.model")}
    bindings = [f"--gin.MODEL_DIR='{old / 'model_dir'}'", f"--gin.TRAIN_STEPS={max(steps)}"]
    command = [sys.executable, "-m", "t5x.train", f"--gin_file={OLD / 'student.gin'}", *bindings]
    subprocess.run(command, check=True, cwd=ROOT, env={**environment, "XLA_FLAGS": ""}, timeout=300)
    lines = (old / "model_dir" / "train" / "metrics.jsonl").read_text().splitlines()
    losses = {row["step"]: row["loss"] for row in map(json.loads, lines)}
    assert sorted(losses) == list(range(1, max(steps) + 1))
    assert {step: losses[step] for step in steps} == pytest.approx(steps, abs=1e-4)


@pytest.mark.parametrize("model", ["model_dir", "hf", "ct2"])
def test_old_students_give_the_same_predictions(model: str, old: Path, recorded: dict, monkeypatch) -> None:
    """CTranslate2 in 528859f never gave empty answers (a defect); it now answers like the recorded JAX student."""
    monkeypatch.setenv("FSA_VOCAB", str(old / "spiece.model"))
    output = old / "predictions.jsonl"
    options = ["--task", "rewriting", "--max_output_length", "12"]
    assert main(["predict", str(old / model), str(old / "sentences.txt"), str(output), *options]) == 0
    rows = [json.loads(line) for line in output.read_text().splitlines()]
    expected = recorded["predictions_model_dir"]
    assert len(rows) == len(expected) == 12
    for row, (text, score) in zip(rows, expected, strict=True):
        assert row["generated"] == text
        if model != "ct2":
            assert row["score"] == pytest.approx(score, abs=1e-2)
