"""Writes checksums of the files in a directory, and compares the files with them.

The list is a text file in the format of ``sha256sum``, so ``sha256sum -c checksums.sha256`` checks the files without
this project. The list itself must be protected too: the caller stores the digest of the list in a marker file, which is
written last, and passes it to :func:`problems`.

Files that operating systems add to any folder (``.DS_Store``, ``Thumbs.db``, ``.nfs…`` for a file that was deleted
while it was open) are ignored, because they are not read here and may appear and disappear.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Collection, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

LIST = "checksums.sha256"
_LINE = re.compile(r"([0-9a-f]{64}) [ *](.+)")
_OF_THE_SYSTEM = re.compile(r"(.*/)?(\.DS_Store|Thumbs\.db|\.nfs[^/]*)")
_CHUNK_BYTES = 1 << 20
_UNREADABLE = "cannot be read"


def is_of_the_system(name: str) -> bool:
    """Whether operating systems add files with this name (with or without a folder) to any folder."""
    return bool(_OF_THE_SYSTEM.fullmatch(name))


def file_digest(path: Any) -> str:
    """Returns the SHA-256 of a file in hexadecimal; ``path`` is a ``pathlib.Path`` or an ``epath.Path``."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()


def write(directory: Any, skip: Collection[str] = ()) -> str:
    """Writes the list of all files below ``directory`` into it.

    Args:
      directory: a ``pathlib.Path`` or an ``epath.Path``.
      skip: relative names (``/`` as separator) of files and directories to leave out, such as the marker.

    Returns:
      The digest of the list, which the caller stores in the marker.
    """
    data = _listing(directory, sorted(files(directory, {*skip, LIST})), file_digest)
    (directory / LIST).write_bytes(data)
    return hashlib.sha256(data).hexdigest()


def digest(directory: Any) -> str:
    """Returns the digest of a directory's content: of its list of checksums, or else of the list that it would get.

    Hidden files are left out, because they are records of downloads or incomplete files. A file that cannot be read,
    such as a link to a folder, is represented by its name.
    """
    if (directory / LIST).is_file():
        return file_digest(directory / LIST)
    names = sorted(name for name in files(directory) if not any(part.startswith(".") for part in name.split("/")))
    return hashlib.sha256(_listing(directory, names, _digest_or_reason)).hexdigest()


def _listing(directory: Any, names: list[str], function: Callable[[Any], str]) -> bytes:
    lines = [f"{digest}  {name}\n" for digest, name in zip(_map(function, directory, names), names, strict=True)]
    return "".join(lines).encode("utf-8", "surrogateescape")


def problems(directory: Any, list_digest: str | None, skip: Collection[str] = ()) -> list[str]:
    """Returns a description of each problem with the files below ``directory``; empty if all agree with the list.

    Args:
      directory: a ``pathlib.Path`` or an ``epath.Path``.
      list_digest: result of :func:`write`; None if the digest of the list is not known.
      skip: names to leave out, as in :func:`write`.
    """
    try:
        data = (directory / LIST).read_bytes()
    except OSError:
        return [f"{LIST} cannot be read"]
    if list_digest is not None and hashlib.sha256(data).hexdigest() != list_digest:
        return [f"{LIST} is not the list that was written"]
    expected: dict[str, str] = {}
    for line in data.decode(errors="replace").splitlines():
        match = _LINE.fullmatch(line)
        if match is None:
            return [f"{LIST} has a line that is not a checksum"]
        if not is_of_the_system(match[2]):  # Lists of earlier versions may contain such files.
            expected[match[2]] = match[1]
    present = set(files(directory, {*skip, LIST}))
    found = [f"{name} is missing" for name in sorted(expected.keys() - present)]
    found += [f"{name} is not in {LIST}" for name in sorted(present - expected.keys())]
    both = sorted(present & expected.keys())
    changed = zip(both, _map(_digest_or_reason, directory, both), strict=True)
    return found + [
        f"{name} {digest if digest.startswith(_UNREADABLE) else 'has changed'}"
        for name, digest in changed
        if digest != expected[name]
    ]


def _map(function: Callable[[Any], str], directory: Any, names: list[str]) -> list[str]:
    # Hashing and reading release Python's global lock, so threads use all cores.
    with ThreadPoolExecutor(8) as pool:
        return list(pool.map(lambda name: function(directory / name), names))


def _digest_or_reason(path: Any) -> str:
    try:
        return file_digest(path)
    except OSError as error:
        return f"{_UNREADABLE}: {error.strerror}"


def files(directory: Any, skip: Collection[str] = (), prefix: str = "") -> Iterator[str]:
    """Yields the names of all files below ``directory`` that do not belong to the operating system.

    Args:
      directory: a ``pathlib.Path`` or an ``epath.Path``.
      skip: names to leave out, as in :func:`write`.
      prefix: beginning of all names: the place of ``directory`` in the one that was asked for.
    """
    for entry in directory.iterdir():
        name = f"{prefix}{entry.name}"
        if name in skip:
            continue
        if entry.is_dir() and not (isinstance(entry, Path) and entry.is_symlink()):
            yield from files(entry, skip, f"{name}/")
        elif not is_of_the_system(name):
            yield name
