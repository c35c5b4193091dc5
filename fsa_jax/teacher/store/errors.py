"""What can go wrong with a store that its user can fix."""

from __future__ import annotations

import errno
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from fsa_base.errors import FsaError

_FULL = {
    errno.ENOSPC: "no space left",
    errno.EDQUOT: "the quota is used up",
    errno.EFBIG: "the file-size limit reached",
}


class StoreError(FsaError):
    """A store that cannot be written or read, or that another job is writing."""


_told: set[str] = set()


def tell(text: str) -> None:
    """Prints a line about a store, once a process: stores are opened several times."""
    if text not in _told:
        _told.add(text)
        print(text, file=sys.stderr)


DAMAGED = ".damaged"
"""A part or a journal with this behind its name is set aside: its generations count as missing."""


def ask_again(path: Path) -> str:
    """What to do about a file whose generations cannot be read."""
    aside = path.with_name(path.name + DAMAGED)
    command = f"mv {path} {aside}" if path.exists() else f"touch {aside}"
    return f"restore it, or have its requests sent, and paid for, again: {command}"


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Turns errors of reading a file into StoreError."""
    try:
        yield
    except OSError as error:
        raise StoreError(
            path, expected="a file that can be read", found=str(error), fix="fix the disk or its rights"
        ) from error


@contextmanager
def storing(path: Path) -> Iterator[None]:
    """Turns errors of the disk into StoreError, a full one with what to do about it."""
    try:
        yield
    except OSError as error:
        full = _FULL.get(error.errno or 0)
        if full:
            found, fix = f"{full} ({error})", "make room (what was stored is safe) and run the same command again"
        else:
            found, fix = str(error), "fix the disk or its rights (what was stored is safe) and run the command again"
        raise StoreError(path, expected="a disk that takes what is written", found=found, fix=fix) from error
