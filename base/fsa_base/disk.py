"""The disk: replacing files safely, waiting until what was written is on it, and finding out that it is full."""

from __future__ import annotations

import contextlib
import errno
import itertools
import os
from collections.abc import Collection, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

_NO_SYNC = (errno.EINVAL, errno.ENOSYS, errno.ENOTSUP)
"""What file systems without it say, of folders above all."""


def sync(path: Any, recursive: bool = True) -> None:
    """Waits until a file or a directory, with all that is in it, is on the disk; in buckets nothing is to be done.

    Raises:
      OSError: something cannot be read, or the disk fails.
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
    """Returns the system's error among ``numbers`` (of ``errno``) that caused ``error``, None if none did."""
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
