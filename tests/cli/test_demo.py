"""A small ``fsa demo`` with the real commands: it is stopped and resumed, and a complete one is not repeated."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from fsa_jax.cli.main import main

SIZES = {
    "reviews": 150,
    "labelled-sentences": 16,
    "dev-sentences": 8,
    "test-sentences": 8,
    "vocabulary-rows": 768,
    "distillation-steps": 4,
    "finetuning-steps": 2,
    "learning-rates": "[0.003]",
    "seeds": "[1]",
}


def words(out: Path, **changes) -> list[str]:
    sizes = SIZES | changes
    return [sys.executable, "-m", "fsa_jax.cli.main", "demo", f"--out={out}", *(f"--{k}={v}" for k, v in sizes.items())]


def environment() -> dict[str, str]:
    # The environment of a user: one device, no test settings.
    return {name: value for name, value in os.environ.items() if name not in ("XLA_FLAGS", "FSA_DATA_DIR", "FSA_VOCAB")}


def children(of: int) -> list[int]:
    """Running processes of the demo's commands, found by the folder in their command line."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            status = (process / "stat").read_text().rsplit(")", 1)[1].split()
        except OSError:
            continue
        if int(status[1]) == of and status[0] != "Z":
            found.append(int(process.name))
    return found


def bindings(model_dir: Path) -> dict[str, str]:
    """The gin bindings of a run."""
    text = (model_dir / "config.gin").read_text().replace(" = \\\n    ", " = ")
    return dict(line.split(" = ", 1) for line in text.splitlines() if " = " in line and not line.startswith("#"))


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    """The output folder of a demo that was interrupted once and then completed, and the output of the last start."""
    out = tmp_path_factory.mktemp("demo") / "out"
    first = subprocess.Popen(
        words(out),
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        # If a shell starts `make test` in the background, it ignores Ctrl-C, and its children inherit this.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    begun = out / ".stages" / "distilled.json"
    deadline = time.monotonic() + 240
    while not (begun.exists() and children(first.pid)) and time.monotonic() < deadline:
        time.sleep(0.1)
    started = children(first.pid)
    first.send_signal(signal.SIGINT)
    said, _ = first.communicate(timeout=900)
    assert first.returncode == 130, said.decode()
    assert started and not [pid for pid in started if Path(f"/proc/{pid}").exists()]
    done = subprocess.run(words(out), env=environment(), capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stdout + done.stderr
    return out, done.stdout


def test_a_stopped_demo_is_resumed(demo):
    _, said = demo
    assert "✓ reviews, labels and teacher text: done before" in said
    assert "▶ distillation" in said
    assert "python -m t5x.train --gin_file=gin/distill_tiny.gin" in said.replace("\n", " ")


def test_it_measures_both_students_and_writes_one_page(demo):
    out, said = demo
    results = json.loads((out / "results.json").read_text())
    assert {run["arm"] for run in results["runs"]} == {"scratch", "distilled"}
    for run in results["runs"]:
        assert len(run["predictions"]) == 16
        assert all(0 <= value <= 100 for value in run["f1"].values())
    assert results["distillation"]
    page = (out / "report.html").read_text()
    assert "<script" not in page and page.count("data:image/svg+xml;base64,") == 4
    assert "from scratch" in said and "95 % interval" in said


def test_the_students_differ_only_in_their_initial_weights(demo):
    out, _ = demo
    scratch, distilled = (bindings(out / "finetuned" / arm / "lr0.003-seed1") for arm in ("scratch", "distilled"))
    differing = {name for name in scratch | distilled if scratch.get(name) != distilled.get(name)}
    assert differing == {"INITIAL_CHECKPOINT_PATH", "MODEL_DIR"}


def test_a_complete_demo_is_not_repeated(demo):
    out, _ = demo
    written = (out / "distilled" / "config.gin").stat().st_mtime_ns
    again = subprocess.run(words(out), env=environment(), capture_output=True, text=True, timeout=900)
    assert again.returncode == 0, again.stderr
    assert "▶" not in again.stdout and again.stdout.count("✓") >= 5
    assert (out / "distilled" / "config.gin").stat().st_mtime_ns == written


def test_an_unusable_folder_is_a_clear_error(tmp_path, capsys):
    (tmp_path / "notes.txt").write_text("mine")
    assert main(["demo", "--out", str(tmp_path)]) == 2
    said = capsys.readouterr().err
    assert "--out" in said and "notes.txt" in said and "to fix it" in said


def test_an_unusable_size_is_a_clear_error(tmp_path, capsys):
    assert main(["demo", "--out", str(tmp_path / "new"), "--mistake-rate", "2"]) == 2
    assert "--mistake-rate" in capsys.readouterr().err
    assert not (tmp_path / "new").exists()
