"""One training at a time in a MODEL_DIR: two would delete each other's checkpoints and mix their metrics."""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Iterator

import jax

from fsa_jax import file_lock
from fsa_jax.errors import SettingError

LOCK = ".lock"
PATIENCE_SECONDS = 60.0
"""How long the start of a run waits for the one before, which may be saving its last state (SIGTERM)."""


@contextlib.contextmanager
def claimed(model_dir: str) -> Iterator[None]:
    """Holds ``model_dir`` for this run, by process 0 and the operating system, which lets go when the process ends.

    Buckets (``gs://…``) and file systems without locks are not guarded.

    Raises:
      SettingError: another run holds it.
    """
    if "://" in model_dir or jax.process_index() != 0:
        yield
        return
    with open(os.path.join(model_dir, LOCK), "a+") as file:
        _lock(file.fileno(), model_dir)
        with contextlib.suppress(OSError):  # who holds it is good to know, and no reason to fail on a full disk
            os.ftruncate(file.fileno(), 0)
            os.write(file.fileno(), f"process {os.getpid()} on {socket.gethostname()}".encode())
        yield


def _lock(descriptor: int, model_dir: str) -> None:
    try:
        file_lock.acquire(descriptor, PATIENCE_SECONDS)
    except BlockingIOError as error:
        holder = os.pread(descriptor, 200, 0).decode(errors="replace") or "another process"
        raise SettingError(
            "MODEL_DIR",
            expected=f"no other run in {model_dir}",
            found=f"one that is training: {holder}",
            fix="wait for it, stop it, or give this run another directory: --gin.MODEL_DIR=\"'DIRECTORY'\"",
        ) from error
    except OSError:  # no locks on this file system
        return
