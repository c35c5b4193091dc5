"""The operating system's lock on an open file; it ends with the process, however that ends."""

from __future__ import annotations

import fcntl
import time

_POLL_SECONDS = 0.2


def acquire(descriptor: int, patience: float) -> None:
    """Locks a file, waiting for ``patience`` seconds where another process holds it.

    Raises:
      BlockingIOError: it is held still.
      OSError: the file system has no locks.
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
