"""The list of a shard's parts with their SHA-256, so that damage, and a part that is gone, are noticed.

A part's line is written before the part gets its name. A line without its part stands for one that was being committed,
whose journal or smaller parts are still there; where they are not, something is gone. A comment names the journal that
is being written. ``sha256sum -c checksums.sha256`` checks the parts without this project.
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
    """What a shard's list says.

    Attributes:
      digests: SHA-256 in hexadecimal by the part's name.
      journal: name of the journal that is being written, if any.
    """

    digests: Mapping[str, str] = field(default_factory=dict)
    journal: str | None = None


def read_list(folder: Path) -> PartList | None:
    """What the list of a shard says; None where it has none, as 528859f's.

    Raises:
      StoreError: it cannot be read, or is damaged.
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
    """How to write the list of a shard again."""
    return f"make it anew if the parts are known to be whole: (cd {folder} && sha256sum part-*.parquet > {LIST})"


def change_list(folder: Path, parts: Mapping[str, str] | None = None, **journal: str | None) -> None:
    """Adds parts (SHA-256 by name) to the list of a shard, and drops those whose files are gone.

    Args:
      folder: the shard's.
      parts: to be added.
      journal: ``journal=NAME``: the journal that is written from now on; ``journal=None``: none.

    Raises:
      StoreError: the disk does not take it; the old list is there.
    """
    old = read_list(folder)
    before = old or PartList()
    kept = {name: digest for name, digest in before.digests.items() if (folder / name).exists()}
    new = replace(before, digests={**kept, **(parts or {})}, **journal)
    if new != old:
        write_list(folder, new)


def write_list(folder: Path, content: PartList) -> None:
    """Writes the list of a shard so that it is there whole or not at all, also after a power cut.

    Raises:
      StoreError: the disk does not take it; the old list is there.
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
