"""What can go wrong with a store that its user can fix."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from fsa_jax.errors import FsaError

_FULL = {
    errno.ENOSPC: "no space left",
    errno.EDQUOT: "the quota is used up",
    errno.EFBIG: "the file-size limit reached",
}


class StoreError(FsaError):
    """A store that cannot be written or read, or that another job is writing."""


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
