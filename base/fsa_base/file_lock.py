"""The operating system's lock on an open file. It ends with the process, however that ends."""

from __future__ import annotations

import errno
import time

import filelock

_POLL_SECONDS = 0.2


def acquire(descriptor: int, patience: float) -> None:
    """Locks an open file, waiting for ``patience`` seconds while another process holds the lock.

    The lock belongs to the descriptor: closing it, and every copy of it that a child process has, releases the lock.

    Raises:
      BlockingIOError: another process still holds it.
      OSError: the file system has no locks.
    """
    deadline = time.monotonic() + patience
    # Not filelock.FileLock, which opens and releases a file of its own: docs/decisions.md, 11.
    while not filelock.lock_descriptor(descriptor, blocking=False):
        if time.monotonic() > deadline:
            raise BlockingIOError(errno.EAGAIN, "another process holds the lock")
        time.sleep(_POLL_SECONDS)
