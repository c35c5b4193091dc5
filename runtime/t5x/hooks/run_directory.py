"""The directory of a run: that it can be written, that no other run works in it, and the step at which it began."""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Iterable, Iterator

import jax
from absl import logging
from etils import epath

from fsa_base import checkpoint_files, disk, runs
from fsa_base.errors import CheckpointError, SettingError
from t5x.distributed import processes

BEGAN = "began_at_step.txt"
LOCK = ".lock"
PATIENCE_SECONDS = 60.0
"""How long the start of a run waits for the one before, which may be saving its last state (SIGTERM)."""


def require_writable(directory: epath.PathLike) -> None:
    """Creates ``directory`` and writes and removes a file in it, before anything expensive has begun.

    Raises:
      CheckpointError: that did not work.
    """
    root = epath.Path(directory)
    probe = root / f".writable-{jax.process_index()}"
    try:
        root.mkdir(parents=True, exist_ok=True)
        probe.write_text("")
        probe.unlink()
    except OSError as error:
        raise CheckpointError(
            root,
            expected="a directory that can be written",
            found=str(error),
            fix="choose another with --gin.MODEL_DIR=\"'DIRECTORY'\", or change its permissions",
        ) from error


@contextlib.contextmanager
def claimed(directory: str, lock: str = LOCK, setting: str = "MODEL_DIR", activity: str = "training") -> Iterator[None]:
    """Holds ``directory`` for this run, by process 0 and the operating system, which lets go when the process ends.

    Two trainings in one MODEL_DIR would delete each other's checkpoints and mix their metrics; two inferences of one
    part of a task would rename and delete each other's chunks.

    Buckets (``gs://…``) and file systems without locks are not guarded. The file stays: whoever deleted it would let
    two in, one that has it open still and one that makes it anew.

    Args:
      directory: what is held, or of which a part is held.
      lock: the file in it that is locked; runs with different ones do not exclude each other.
      setting: the gin macro that chooses the directory, for the message.
      activity: what a run does there, for the message.

    Raises:
      SettingError: another run holds it.
    """
    if "://" in directory or jax.process_index() != 0:
        yield
        return
    with open(os.path.join(directory, lock), "a+") as file:
        _lock(file.fileno(), directory, setting, activity)
        with contextlib.suppress(OSError):  # who holds it is good to know, and no reason to fail on a full disk
            os.ftruncate(file.fileno(), 0)
            os.write(file.fileno(), f"process {os.getpid()} on {socket.gethostname()}".encode())
        yield


def _lock(descriptor: int, directory: str, setting: str, activity: str) -> None:
    try:
        disk.lock(descriptor, PATIENCE_SECONDS)
    except BlockingIOError as error:
        holder = os.pread(descriptor, 200, 0).decode(errors="replace") or "another process"
        raise SettingError(
            setting,
            expected=f"no other run in {directory}",
            found=f"one that is {activity}: {holder}",
            fix=f"wait for it, stop it, or give this run another directory: --gin.{setting}=\"'DIRECTORY'\"",
        ) from error
    except OSError:  # no locks on this file system
        return


class Periodic:
    """Which steps something happens at: a grid that stays the same however often the run is stopped and started again.

    Every ``period`` counted from ``began``, the ``extra`` ones and ``last``.
    """

    def __init__(self, began: int, last: int, period: int | None, extra: Iterable[int] = ()) -> None:
        self._began, self._last, self._period, self._extra = began, last, period, frozenset(extra)

    def __contains__(self, step: int) -> bool:
        on_period = bool(self._period) and (step - self._began) % (self._period or 1) == 0
        return on_period or step == self._last or step in self._extra


def beginning(model_dir: str, first: int, is_resuming: bool, stats_period: int) -> int:
    """Returns the step at which ``model_dir`` began (fine-tuning: that of the checkpoint that it started from).

    A first start records it. Where the record is missing (older runs, upstream's), it is told from what is there: the
    first checkpoint, and the first row of training metrics, which is written one period after the beginning.

    Args:
      model_dir: the run's directory.
      first: step of this start.
      is_resuming: whether it goes on from a checkpoint in ``model_dir``.
      stats_period: steps between rows of training metrics.
    """
    began = first
    if jax.process_index() == 0:
        file = epath.Path(model_dir) / BEGAN
        recorded = _recorded(file, first) if is_resuming else None
        if recorded is None:
            began = _guessed(model_dir, first, stats_period) if is_resuming else first
            with disk.replacing(file) as partial:
                partial.write_text(f"{began}\n")
        else:
            began = recorded
    return processes.broadcast(began)


def _recorded(file: epath.Path, first: int) -> int | None:
    if not file.exists():
        return None
    text = file.read_bytes().decode(errors="replace").strip()
    if text.isdecimal() and int(text) <= first:
        return int(text)
    logging.warning(
        "%s: expected a step up to %d, found %r; it is told from checkpoints and metrics", file, first, text
    )
    return None


def _guessed(model_dir: str, first: int, stats_period: int) -> int:
    first_saved = checkpoint_files.checkpoint_steps(model_dir)[:1]
    first_rows = runs.metric_rows(model_dir, "train", "")[:1]
    return min([first, *first_saved, *(max(0, row["step"] - stats_period) for row in first_rows)])
