"""The directory of a run: checks that it is writable, a lock against other runs, and the step at which it began."""

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
"""How long a run waits at its start for the previous one, which may still be saving its state after SIGTERM."""


def require_writable(directory: epath.PathLike) -> None:
    """Creates ``directory``, and writes and removes a file in it, before the expensive part of a run.

    Raises:
      CheckpointError: The directory cannot be created or written.
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
    """Locks ``directory`` for this run. Process 0 holds the lock; the operating system releases it when that ends.

    Two trainings in one MODEL_DIR would delete each other's checkpoints and mix their metrics; two inferences of one
    part of a task would rename and delete each other's chunks.

    Buckets (``gs://…``) and file systems without locks are not protected. The lock file is not deleted afterwards:
    otherwise one process could lock the deleted file while another locks a new one.

    Args:
      directory: The directory to lock, or a part of it.
      lock: Name of the lock file. Runs with different lock files do not exclude each other.
      setting: The gin macro that sets the directory, for the error message.
      activity: What the run does, for the error message.

    Raises:
      SettingError: Another run holds the lock.
    """
    if "://" in directory or jax.process_index() != 0:
        yield
        return
    with open(os.path.join(directory, lock), "a+") as file:
        _lock(file.fileno(), directory, setting, activity)
        with contextlib.suppress(OSError):  # informational; must not fail on a full disk
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
    except OSError:  # this file system has no locks
        return


class Periodic:
    """The steps at which something happens; the same steps however often the run is interrupted.

    They are every ``period`` steps counted from ``began``, the ``extra`` steps, and ``last``.
    """

    def __init__(self, began: int, last: int, period: int | None, extra: Iterable[int] = ()) -> None:
        self._began, self._last, self._period, self._extra = began, last, period, frozenset(extra)

    def __contains__(self, step: int) -> bool:
        on_period = bool(self._period) and (step - self._began) % (self._period or 1) == 0
        return on_period or step == self._last or step in self._extra


def beginning(model_dir: str, first: int, is_resuming: bool, stats_period: int) -> int:
    """Returns the step at which ``model_dir`` began; in fine-tuning, the step of the pre-trained checkpoint.

    The first start writes it to a file. If that file is missing (runs of older versions or of upstream T5X), the step
    is derived from the first checkpoint and the first row of training metrics, which is written after one period.

    Args:
      model_dir: Directory of the run.
      first: First step of this start.
      is_resuming: Whether the run continues from a checkpoint in ``model_dir``.
      stats_period: Steps between rows of training metrics.
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
