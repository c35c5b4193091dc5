"""Errors of libraries that the user can fix, as FsaErrors: a full disk, too little device memory, a missing package."""

from __future__ import annotations

import errno

import jax

from fsa_base import extras
from fsa_base.disk import disk_error
from fsa_base.errors import FsaError, SettingError

MEMORY_FIX = (
    "lower BATCH_SIZE, cut batches into slices (--gin.trainer.Trainer.num_microbatches=2), turn on remat in the "
    "model's configuration, or split parameters over more devices (PjitPartitioner.num_partitions)"
)
_DISK_ERRNOS = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)


class Interrupted(KeyboardInterrupt):
    """Ctrl-C was pressed, and the state has been saved."""


def for_user(error: BaseException) -> FsaError | None:
    """Returns an FsaError that says how to fix ``error``; None if this module does not know the error.

    An :class:`FsaError` is returned unchanged.
    """
    if isinstance(error, FsaError):
        return error
    if isinstance(error, ImportError):
        return extras.error_of(error)
    return _of_disk(error) or _of_memory(error)


def _of_disk(error: BaseException) -> FsaError | None:
    found = disk_error(error, _DISK_ERRNOS)
    if found is None:
        return None
    return FsaError(
        found.filename or "the run's directory",
        expected="a disk with room that can be written",
        found=found.strerror or str(found),
        fix="free space or repair the disk, then start the same command again: it continues from its newest checkpoint",
    )


def _of_memory(error: BaseException) -> SettingError | None:
    message = str(error)
    if not isinstance(error, jax.errors.JaxRuntimeError) or "RESOURCE_EXHAUSTED" not in message:
        return None
    return SettingError(
        "BATCH_SIZE", expected="a step that fits into device memory", found=message.splitlines()[0], fix=MEMORY_FIX
    )
