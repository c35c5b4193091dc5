"""Waits until written files are on the disk. Needed before and after a file or directory gets its final name."""

from __future__ import annotations

import errno
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

_NO_SYNC = (errno.EINVAL, errno.ENOSYS, errno.ENOTSUP)
"""Errors of file systems that do not support fsync, especially for folders."""


def sync(path: Any, recursive: bool = True) -> None:
    """Waits until a file, or a directory with all its content, is on the disk. Does nothing for buckets.

    Raises:
      OSError: a file cannot be read, or the disk fails.
    """
    if "://" in str(path):
        return
    if recursive:
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(_sync, sorted(entry for entry in Path(path).rglob("*") if not entry.is_symlink())))
    _sync(Path(path))


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in _NO_SYNC:
            raise
    finally:
        os.close(descriptor)
