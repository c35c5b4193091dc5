"""The list of a shard's parts with their SHA-256, so that damaged and missing parts are noticed.

The line of a part is written before the part gets its final name. So a line without its part is no error if the journal
or the smaller parts with the same numbers are still there; otherwise a file is missing. A comment line names the
journal that is being written. ``sha256sum -c checksums.sha256`` checks the parts without this project.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from fsa_base.checksums import LIST
from fsa_base.disk import sync
from fsa_jax.teacher.store.errors import StoreError, reading, storing

ASIDE = ".aside"
_LINE = re.compile(r"([0-9a-f]{64})  (part-\d{8}-\d{8}\.parquet)")
_JOURNAL = re.compile(r"# (journal-\d{8}\.jsonl)")


@dataclass(frozen=True)
class PartList:
    """The content of a shard's list.

    Attributes:
      digests: SHA-256 in hexadecimal by name of the part.
      journal: name of the journal that is being written, if any.
    """

    digests: Mapping[str, str] = field(default_factory=dict)
    journal: str | None = None


def read_list(folder: Path) -> PartList | None:
    """Reads the list of a shard; None if there is no list, as in stores of version 528859f.

    Raises:
      StoreError: the list cannot be read, or is damaged.
    """
    path = folder / LIST
    try:
        with reading(path):
            text = path.read_bytes().decode("ascii", errors="replace")
    except StoreError as error:
        if isinstance(error.__cause__, FileNotFoundError):
            return None
        raise
    digests: dict[str, str] = {}
    journal = None
    for number, line in enumerate(text.splitlines(keepends=True), start=1):
        if (match := _LINE.fullmatch(line, endpos=len(line) - 1)) and line.endswith("\n"):
            digests[match[2]] = match[1]
        elif (match := _JOURNAL.fullmatch(line, endpos=len(line) - 1)) and line.endswith("\n"):
            journal = match[1]
        else:
            raise StoreError(
                f"{path}:{number}",
                expected="a SHA-256 and the name of a part",
                found=repr(line[:80]),
                fix=f"restore it, or {anew(folder)}",
            )
    return PartList(digests, journal)


def anew(folder: Path) -> str:
    """The ``fix`` text that tells how to write the list of a shard again."""
    return f"if the parts are known to be undamaged, write it again: (cd {folder} && sha256sum part-*.parquet > {LIST})"


def change_list(folder: Path, parts: Mapping[str, str] | None = None, **journal: str | None) -> None:
    """Adds parts to the list of a shard, and removes those whose files no longer exist.

    Args:
      folder: folder of the shard.
      parts: SHA-256 by name of the parts to add.
      journal: ``journal=NAME``: name of the journal that is written from now on; ``journal=None``: no journal.

    Raises:
      StoreError: the list cannot be written; the old list is unchanged.
    """
    old = read_list(folder)
    before = old or PartList()
    kept = {name: digest for name, digest in before.digests.items() if (folder / name).exists()}
    new = replace(before, digests={**kept, **(parts or {})}, **journal)
    if new != old:
        write_list(folder, new)


def write_list(folder: Path, content: PartList) -> None:
    """Writes the list of a shard atomically, also with respect to a power cut.

    Raises:
      StoreError: the list cannot be written; the old list is unchanged.
    """
    path = folder / LIST
    lines = [f"{digest}  {name}\n" for name, digest in sorted(content.digests.items())]
    lines += [f"# {content.journal}\n"] if content.journal else []
    aside = path.with_name(path.name + ASIDE)
    with storing(path):
        try:
            with aside.open("w", encoding="ascii") as file:
                file.writelines(lines)
                file.flush()
                os.fsync(file.fileno())
            aside.replace(path)
        finally:
            aside.unlink(missing_ok=True)
        sync(folder, recursive=False)
