"""Marks finished output directories with a list of checksums, and with a marker file that is written last."""

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
"""Files that :func:`finish` adds to a directory."""
_EXAMPLES = 3
_found_whole: set[tuple[object, ...]] = set()


def finish(directory: Path) -> None:
    """Writes the checksums of all files in a directory, and the marker with the digest of the list."""
    digest = checksums.write(directory, skip=(MARKER,))
    (directory / MARKER).write_bytes(_marker(digest))


def _marker(digest: str) -> bytes:
    """Content of the marker: only the digest, so that any changed byte is noticed."""
    return (json.dumps({checksums.LIST: digest}) + "\n").encode()


def require_whole(directory: Path, *, metadata: str, fix: str) -> None:
    """Compares the files of a directory with its checksums: once per process, unless a file's size or time changes.

    A directory that was written without checksums is accepted, with a warning on standard error.

    Args:
      directory: output directory of a command.
      metadata: name of a file in it that mentions the list of checksums, if the directory was written with a list.
      fix: ``fix`` text of the error.

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
                expected="unchanged files",
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
    """Names, sizes and times of all files, which show whether files may have changed since the last comparison."""
    files = []
    for folder, _, names in os.walk(directory):
        for name in names:
            path = os.path.join(folder, name)
            status = os.lstat(path)
            files.append((path, status.st_size, status.st_mtime_ns))
    return (str(directory.resolve()), *sorted(files))
