"""What a full or read-only disk makes of a run, in words."""

from __future__ import annotations

import errno

from fsa_base.disk import disk_error
from fsa_base.errors import FsaError

_ERRNOS = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)


def error_of(error: BaseException) -> FsaError | None:
    """Returns the error for the user where the disk is the cause of ``error``, else None."""
    found = disk_error(error, _ERRNOS)
    if found is None:
        return None
    return FsaError(
        found.filename or "the run's directory",
        expected="a disk with room that can be written",
        found=found.strerror or str(found),
        fix="free space or repair the disk, then start the same command again: it goes on from its newest checkpoint",
    )
