"""``fsa eval``: from a run's config.gin to the command of the engine, and the signals that the command gets."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from fsa_base.errors import CheckpointError, DataError, SettingError
from fsa_jax.common.training_engine import KEEPING_MEMORY
from fsa_jax.training import found_data, recipes, run_record
from fsa_jax.training.eval_command import eval_command, find_run, new_scores, scores_so_far

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def _alone(monkeypatch, tmp_path):
    for name in ("FSA_VOCAB", "FSA_DATA_DIR", "FSA_STUDENT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)
    for name in ("atsa/rest14", "acsa/rest16"):
        folder = tmp_path / "data" / "fsa" / name
        folder.mkdir(parents=True)
        for file in ("train", "dev"):
            (folder / f"{file}.json").write_text("[]")


def write_run(directory: Path, bindings: dict, task: str = "fsa_atsa_rest14") -> None:
    """A run whose checkpoint_2 is better than checkpoint_4."""
    for step in (2, 4):
        (directory / f"checkpoint_{step}" / "state").mkdir(parents=True)
    macros = {"MIXTURE_OR_TASK_NAME": task, "VOCABULARY_ROWS": 32128, "BEST_BY": "inference_eval/t/f1"}
    macros["TASK_FEATURE_LENGTHS"] = {"inputs": 16, "targets": 8}
    lines = [f"{name} = {value!r}" for name, value in {**macros, **bindings}.items()]
    lines += ["checkpoints.OrbaxCheckpointManagerInterface.metric_name_to_monitor = %BEST_BY"]
    (directory / "config.gin").write_text("\n".join(lines))
    (directory / "inference_eval").mkdir()
    (directory / "inference_eval" / "t-metrics.jsonl").write_text('{"step": 2, "f1": 9}\n{"step": 4, "f1": 3}\n')


def network(size: str, **changed: object) -> dict:
    values = {"dtype": "float32", "vocab_size": 32128, **recipes.SIZES[size].network, **changed}
    return {f"network.T5Config.{name}": value for name, value in values.items()}


def test_fsa_eval_scores_the_best_checkpoint_of_a_size(tmp_path):
    write_run(Path("runs/s"), network("60m"))
    data = found_data.find(Path("data"))
    for where in ("s", "runs/s", "runs/s@best", "runs/s/checkpoint_2"):
        run = find_run(where)
        assert run.checkpoint == Path("runs/s/checkpoint_2")
    engine = eval_command(run, "hard", data)
    assert engine.gin_files == ["gin/models/t5_1_0_small.gin", "gin/shared/eval.gin"]
    assert engine.bindings == {
        "MODEL_DIR": "runs/s",
        "CHECKPOINT_PATH": "runs/s/checkpoint_2",
        "MIXTURE_OR_TASK_NAME": "fsa_atsa_rest14",
        "SPLIT": "hard",
        "EVAL_OUTPUT_DIR": "runs/s/hard",
        "network.T5Config.dtype": "float32",
        "TASK_FEATURE_LENGTHS": {"inputs": 16, "targets": 8},
    }
    other = eval_command(run, "test", data, task="rest16").bindings
    assert other["MIXTURE_OR_TASK_NAME"] == "fsa_acsa_rest16" and "TASK_FEATURE_LENGTHS" not in other
    with pytest.raises(SettingError, match=r"--split: .*near 'implicit'"):
        eval_command(run, "implict", data)
    with pytest.raises(SettingError, match="--base: expected none"):
        eval_command(run, "test", data, base=Path("qwen"))
    with pytest.raises(SettingError, match="use a checkpoint as the first word"):
        eval_command(run, "test", data, engine_flags=["--gin.CHECKPOINT_PATH='x'"])
    with pytest.raises(CheckpointError, match=r"runs/other"):
        find_run("other")


def test_earlier_scores_are_not_shown_as_new(tmp_path):
    write_run(Path("runs/s"), network("60m"))
    engine = eval_command(find_run("s"), "hard", found_data.find(Path("data")))
    file = Path("runs/s/hard/inference_eval/fsa_atsa_rest14-metrics.jsonl")
    file.parent.mkdir(parents=True)
    file.write_text('{"step": 2, "f1": 9}\n')
    before = len(scores_so_far(engine))
    with pytest.raises(DataError, match="new scores of step 2"):
        new_scores(engine, before, 2)
    with file.open("a") as stream:
        stream.write('{"step": 2, "f1": 11}\n')
    assert new_scores(engine, before, 2) == {"f1": 11.0}


def test_the_sizes_of_a_run_without_recipe_are_bound_and_its_vocabulary_is_needed():
    write_run(Path("runs/s"), network("10m", emb_dim=32, vocab_size=384))
    data, run = found_data.find(Path("data")), find_run("s")
    with pytest.raises(SettingError, match="embedding has 384 rows"):
        eval_command(run, "test", data)
    run_record.write("runs/s", {"FSA_VOCAB": "/v/spiece.model"})
    engine = eval_command(find_run("s"), "test", data)
    assert engine.gin_files[0] == "gin/models/t5.gin" and engine.environment["FSA_VOCAB"] == "/v/spiece.model"
    assert {"network.T5Config.emb_dim": 32, "VOCABULARY_ROWS": 384}.items() <= engine.bindings.items()


def test_a_distilled_student_has_no_scores_of_its_own():
    write_run(Path("runs/s"), network("base"), task="fsa_corpus")
    with pytest.raises(SettingError, match="was trained on fsa_corpus"):
        eval_command(find_run("s"), "test", found_data.find(Path("data")))


CHILD = """
import signal, sys, time
def stop(number, frame):
    print("got", signal.Signals(number).name, flush=True)
    sys.exit(7)
signal.signal(signal.SIGHUP, stop)
signal.signal(signal.SIGINT, stop)
signal.signal(signal.SIGTERM, stop)
print("ready", flush=True)
time.sleep(60)
"""
PARENT = """
import sys
from fsa_jax.training.engine_command import EngineCommand
sys.exit(EngineCommand("child_command", [], {}).run())
"""


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGINT, signal.SIGTERM])
def test_signals_are_passed_on_and_the_exit_status_is_the_engines(number, tmp_path):
    (tmp_path / "child_command.py").write_text(CHILD)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), *sys.path])}
    parent = subprocess.Popen([sys.executable, "-c", PARENT], env=environment, stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None and parent.stdout.readline() == "ready\n"
    parent.send_signal(number)
    assert parent.stdout.read() == f"got {signal.Signals(number).name}\n"
    assert parent.wait(timeout=30) == 7


@pytest.mark.parametrize("method", ["run", "replace_process"])
@pytest.mark.parametrize("own", [None, "glibc.malloc.check=0"])
def test_the_engine_keeps_its_memory_unless_the_user_says_otherwise(method, own, tmp_path):
    (tmp_path / "child_command.py").write_text("import os\nprint(os.environ['GLIBC_TUNABLES'])\n")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), *sys.path])}
    environment.pop("GLIBC_TUNABLES", None)
    environment |= {} if own is None else {"GLIBC_TUNABLES": own}
    parent = [sys.executable, "-c", PARENT.replace(".run()", f".{method}()")]
    printed = subprocess.run(parent, env=environment, capture_output=True, text=True, check=True).stdout
    assert printed.strip() == (own or KEEPING_MEMORY["GLIBC_TUNABLES"])
