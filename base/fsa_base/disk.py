"""The disk: replacing files safely, waiting until written data is on it, detecting that it is full, locking a file."""

from __future__ import annotations

import contextlib
import errno
import itertools
import os
import time
from collections.abc import Collection, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import filelock

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


def as_path(path: Any) -> Any:
    """Returns ``path`` as a ``pathlib.Path``, or as an ``epath.Path`` where it lies in a bucket (``gs://…``)."""
    if "://" not in str(path):
        return Path(path)
    from etils import epath

    return epath.Path(path)


@contextlib.contextmanager
def replacing(file: Any, durable: bool = False) -> Iterator[Any]:
    """Gives a temporary path beside ``file``, and renames what was written there to ``file`` at the end of the block.

    A process that is killed meanwhile leaves ``file`` as it was before.

    Args:
      file: a ``pathlib.Path`` or an ``epath.Path``.
      durable: wait until the content and the name are on the disk, so that a power failure does not undo them either.
    """
    partial = file.parent / f"{file.name}.tmp"
    yield partial
    if durable:
        sync(partial, recursive=False)
    partial.replace(file)
    if durable:
        sync(file.parent, recursive=False)


def free_path(path: Any, suffix: str) -> Any:
    """Returns the first of ``PATHsuffix``, ``PATHsuffix-2``, ``PATHsuffix-3`` … that does not exist."""
    suffixes = itertools.chain([suffix], (f"{suffix}-{number}" for number in itertools.count(2)))
    return next(free for end in suffixes if not (free := path.parent / f"{path.name}{end}").exists())


def disk_error(error: BaseException, numbers: Collection[int]) -> OSError | None:
    """Returns the OSError with one of the ``numbers`` (of ``errno``) that caused ``error``; None if there is none."""
    for link in _chain(error):
        for number in numbers:
            if getattr(link, "errno", None) == number or os.strerror(number) in str(link):
                return OSError(number, os.strerror(number), getattr(link, "filename", None))
    return None


def _chain(error: BaseException) -> Iterator[BaseException]:
    link: BaseException | None = error
    while link is not None:
        yield link
        link = link.__cause__ or link.__context__


_POLL_SECONDS = 0.2


def lock(descriptor: int, patience: float) -> None:
    """Locks an open file, waiting for ``patience`` seconds while another process holds the lock.

    The lock belongs to the descriptor: closing it, and every copy of it that a child process has, releases the lock.

    Raises:
      BlockingIOError: another process still holds it.
      OSError: the file system has no locks.
    """
    deadline = time.monotonic() + patience
    # filelock.FileLock is not used, because it opens and closes its own file (docs/decisions.md, 11).
    while not filelock.lock_descriptor(descriptor, blocking=False):
        if time.monotonic() > deadline:
            raise BlockingIOError(errno.EAGAIN, "another process holds the lock")
        time.sleep(_POLL_SECONDS)
