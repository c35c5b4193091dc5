"""One training at a time in a MODEL_DIR: two would delete each other's checkpoints and mix their metrics.

And one inference at a time of a task's part: two would rename and delete each other's chunks.
"""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Iterator

import jax

from fsa_base import disk
from fsa_base.errors import SettingError

LOCK = ".lock"
PATIENCE_SECONDS = 60.0
"""How long the start of a run waits for the one before, which may be saving its last state (SIGTERM)."""


@contextlib.contextmanager
def claimed(directory: str, lock: str = LOCK, setting: str = "MODEL_DIR", activity: str = "training") -> Iterator[None]:
    """Holds ``directory`` for this run, by process 0 and the operating system, which lets go when the process ends.

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
