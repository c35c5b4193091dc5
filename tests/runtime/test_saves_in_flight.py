"""Checkpoints that another thread writes while training continues."""

from __future__ import annotations

import re
import shutil
import threading
from collections.abc import Callable
from pathlib import Path

import jax
import numpy as np
import orbax.checkpoint as ocp
import pytest
import tensorstore
import tiny_run

from fsa_base import checkpoint_files
from fsa_base.errors import CheckpointError
from t5x import actions, checkpoints


class _At(actions.BaseAction):
    """Calls a function with the step of every row of training metrics."""

    def __init__(self, function: Callable[[int], None]) -> None:
        self._function, self._step = function, 0

    def run(self, train_state, metrics_by_task) -> bool:
        self._step += 1
        self._function(self._step)
        return False


@pytest.fixture
def held(monkeypatch) -> dict[int, threading.Event]:
    """Events by step: no array of that checkpoint is written before its event is set."""
    events: dict[int, threading.Event] = {}
    opened = tensorstore.open

    def wait_and_open(spec, *arguments, **named):
        step = re.search(r"checkpoint_(\d+)\.tmp-write", str(spec))
        if step and int(step[1]) in events:
            events[int(step[1])].wait()
        return opened(spec, *arguments, **named)

    monkeypatch.setattr(tensorstore, "open", wait_and_open)
    return events


def _leaves(checkpoint: Path) -> dict[str, bytes]:
    with ocp.PyTreeCheckpointer() as reader:
        tree = reader.metadata(checkpoint / "state").item_metadata.tree
        arguments = jax.tree.map(lambda _: ocp.RestoreArgs(restore_type=np.ndarray), tree)
        state = reader.restore(checkpoint / "state", restore_args=arguments)
    return {
        jax.tree_util.keystr(path): np.asarray(leaf).tobytes()
        for path, leaf in jax.tree_util.tree_leaves_with_path(state)
    }


def _files(checkpoint: Path) -> set[str]:
    return {path.name for path in checkpoint.iterdir()} | {path.name for path in (checkpoint / "state").iterdir()}


def test_steps_during_a_save_change_neither_it_nor_the_run(tmp_path, held):
    """The state of step n is written after the steps n + 1 to n + 3, to which its memory was given."""
    run, blocking = tmp_path / "run", tmp_path / "blocking"
    held.update({step: threading.Event() for step in (0, 4)})
    complete: dict[int, list[int]] = {}

    def release(step: int) -> None:
        if step - 3 in held:
            complete[step] = checkpoints.checkpoint_steps(run)
            held[step - 3].set()

    tiny_run.run(run, 7, actions={"TRAIN": [_At(release)]})
    assert complete == {3: [], 7: [0]}
    tiny_run.run(blocking, 7, save={"async_save": False})
    assert checkpoints.checkpoint_steps(run) == checkpoints.checkpoint_steps(blocking) == [0, 4, 7]
    assert tiny_run.losses(run) == tiny_run.losses(blocking)
    for step in (0, 4, 7):
        ours, theirs = run / f"checkpoint_{step}", blocking / f"checkpoint_{step}"
        assert _leaves(ours) == _leaves(theirs), step
        assert checkpoint_files.verify(ours).is_verified and _files(ours) == _files(theirs)
        position = "dataset/train_ds-000-of-001.json"
        assert (ours / position).read_bytes() == (theirs / position).read_bytes()


def test_an_error_of_a_save_ends_the_run_without_waiting_for_the_next_one(tmp_path, held):
    held[4] = threading.Event()
    partial = tmp_path / "checkpoint_4.tmp-write"

    def fail(step: int) -> None:
        if step == 6:
            shutil.rmtree(partial)
            held[4].set()

    with pytest.raises(CheckpointError, match=r"it resumes from\s+checkpoint_0"):
        tiny_run.run(tmp_path, 100_000, period=100_000, save={"checkpoint_steps": [4]}, actions={"TRAIN": [_At(fail)]})
    assert checkpoints.checkpoint_steps(tmp_path) == [0] and not partial.exists()
    assert 6 <= tiny_run.rows(tmp_path)[-1]["step"] < 10_000


def test_a_run_that_ends_with_an_error_completes_the_save_in_flight(tmp_path, held):
    """Its directory stays locked until then."""
    held[4] = threading.Event()

    def fail(step: int) -> None:
        if step == 6:
            threading.Timer(0.2, held[4].set).start()
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        tiny_run.run(tmp_path, 8, actions={"TRAIN": [_At(fail)]})
    assert checkpoints.checkpoint_steps(tmp_path) == [0, 4]
    assert checkpoint_files.verify(tmp_path / "checkpoint_4").is_verified
