"""Output directories that say that they are whole: a list of checksums, and a marker that is written last."""

from __future__ import annotations

import hashlib
import json
import os
import sys
from pathlib import Path

from fsa_base import checksums
from fsa_base.errors import DataError

MARKER = "finished.json"
FILES = (MARKER, checksums.LIST)
"""What :func:`finish` adds to a directory."""
_EXAMPLES = 3
_found_whole: set[tuple[object, ...]] = set()


def finish(directory: Path) -> None:
    """Writes the checksums of all files in a directory, and the marker with the list's own digest."""
    digest = checksums.write(directory, skip=(MARKER,))
    (directory / MARKER).write_bytes(_marker(digest))


def _marker(digest: str) -> bytes:
    """Nothing but the digest, so that no byte of it can change unnoticed."""
    return (json.dumps({checksums.LIST: digest}) + "\n").encode()


def require_whole(directory: Path, *, metadata: str, fix: str) -> None:
    """Compares the files of a directory with its checksums: once in a process, unless a file's size or time changes.

    A directory that never had checksums is taken as it is; a line on standard error says so.

    Args:
      directory: what a command wrote.
      metadata: name of a file in it that names the list of checksums, if it was written with one.
      fix: what to do about a damaged one.

    Raises:
      DataError: a file is missing, damaged, or does not belong there.
    """
    stamp = _stamp(directory)
    if stamp in _found_whole:
        return
    marker = directory / MARKER
    has_list = marker.exists() or (directory / checksums.LIST).exists() or _names_list(directory / metadata)
    if not has_list:
        print(f"{directory}: not verified: it was written without checksums (by an older fsa_jax)", file=sys.stderr)
    else:
        found = _problems(directory, marker)
        if found:
            more = f" and {len(found) - _EXAMPLES} more" if len(found) > _EXAMPLES else ""
            raise DataError(
                directory,
                expected="the files as they were written",
                found="; ".join(found[:_EXAMPLES]) + more,
                fix=fix,
            )
    _found_whole.add(stamp)


def _names_list(file: Path) -> bool:
    try:
        return checksums.LIST.encode() in file.read_bytes()
    except OSError:
        return False


def _problems(directory: Path, marker: Path) -> list[str]:
    try:
        found, listed = marker.read_bytes(), (directory / checksums.LIST).read_bytes()
    except OSError as error:
        return [f"{Path(error.filename or directory).name} cannot be read"]
    digest = hashlib.sha256(listed).hexdigest()
    if found != _marker(digest):
        return [f"{MARKER} and {checksums.LIST} do not belong together"]
    return checksums.problems(directory, digest, skip=(MARKER,))


def _stamp(directory: Path) -> tuple[object, ...]:
    """Names, sizes and times of all files, which tell whether they may have changed since they were compared."""
    files = []
    for folder, _, names in os.walk(directory):
        for name in names:
            path = os.path.join(folder, name)
            status = os.lstat(path)
            files.append((path, status.st_size, status.st_mtime_ns))
    return (str(directory.resolve()), *sorted(files))
