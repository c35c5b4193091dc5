"""Locks an open file with the operating system's lock, which is released when the process ends in any way."""

from __future__ import annotations

import fcntl
import time

_POLL_SECONDS = 0.2


def acquire(descriptor: int, patience: float) -> None:
    """Locks a file; waits up to ``patience`` seconds if another process holds the lock.

    Raises:
      BlockingIOError: the other process still holds the lock.
      OSError: the file system does not support locks.
    """
    deadline = time.monotonic() + patience
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            if time.monotonic() > deadline:
                raise
            time.sleep(_POLL_SECONDS)
