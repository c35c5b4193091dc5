"""What a full or read-only disk makes of a run, in words: every library on the way raises an error of its own."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator

from fsa_jax.errors import FsaError

_ERRNOS = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)


def error_of(error: BaseException) -> FsaError | None:
    """Returns the error for the user where the disk is the cause of ``error``, else None."""
    for link in _chain(error):
        for number in _ERRNOS:
            if getattr(link, "errno", None) == number or os.strerror(number) in str(link):
                return FsaError(
                    getattr(link, "filename", None) or "the run's directory",
                    expected="a disk with room that can be written",
                    found=os.strerror(number),
                    fix="free space or repair the disk, then start the same command again: it goes on from its newest "
                    "checkpoint",
                )
    return None


def _chain(error: BaseException) -> Iterator[BaseException]:
    link: BaseException | None = error
    while link is not None:
        yield link
        link = link.__cause__ or link.__context__
