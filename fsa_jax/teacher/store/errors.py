"""Errors of a store that its user can fix."""

from __future__ import annotations

import errno
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from fsa_base.errors import FsaError

_FULL = {
    errno.ENOSPC: "no space left",
    errno.EDQUOT: "the disk quota is used up",
    errno.EFBIG: "the file-size limit is reached",
}


class StoreError(FsaError):
    """The store cannot be written or read, or another job is writing it."""


_told: set[str] = set()


def tell(text: str) -> None:
    """Prints a line about a store, only once per process, because stores are opened several times."""
    if text not in _told:
        _told.add(text)
        print(text, file=sys.stderr)


DAMAGED = ".damaged"
"""Suffix that a user adds to the name of a damaged part or journal; its generations then count as missing."""


def ask_again(path: Path) -> str:
    """The ``fix`` text of an error about a file whose generations cannot be read."""
    aside = path.with_name(path.name + DAMAGED)
    command = f"mv {path} {aside}" if path.exists() else f"touch {aside}"
    return f"restore it, or send (and pay for) its requests again: {command}"


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Turns errors of reading a file into StoreError."""
    try:
        yield
    except OSError as error:
        raise StoreError(
            path, expected="a file that can be read", found=str(error), fix="fix the disk or the access rights"
        ) from error


@contextmanager
def storing(path: Path) -> Iterator[None]:
    """Turns disk errors into StoreError. For a full disk the error says what to do."""
    try:
        yield
    except OSError as error:
        full = _FULL.get(error.errno or 0)
        if full:
            found, fix = f"{full} ({error})", "free disk space and run the same command again; stored answers are safe"
        else:
            found = str(error)
            fix = "fix the disk or the access rights and run the same command again; stored answers are safe"
        raise StoreError(path, expected="a disk that can be written", found=found, fix=fix) from error
