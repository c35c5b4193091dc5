"""The files of a shard's folder: which are valid, which are obsolete, and which are missing.

A journal is obsolete if a part covers its number. A part is obsolete if a larger part covers its numbers. A killed job
may leave obsolete files behind; the next job deletes them.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import chain, islice, pairwise
from pathlib import Path

import numpy as np

from fsa_jax.teacher.key_set import as_keys
from fsa_jax.teacher.store.errors import DAMAGED, StoreError, ask_again, reading, storing, tell
from fsa_jax.teacher.store.journal import read_journal
from fsa_jax.teacher.store.part_list import ASIDE, LIST, PartList, change_list, read_list
from fsa_jax.teacher.store.parts import ROW_GROUP, Index, Part, write_part
from fsa_jax.teacher.store.rows import StoredGeneration, as_table

_PART = re.compile(r"part-(\d{8})-(\d{8})\.parquet")
_JOURNAL = re.compile(r"journal-(\d{8})\.jsonl")
_SHARD = re.compile(r"shard-\d{5}-of-\d{5}")
_LOOKS = (0.02, 0.1)
"""Seconds to wait before reading again: a job may commit a part after the folder was read and before its list is."""


@dataclass(frozen=True)
class SealedJournal:
    """A journal that no part covers yet; it can only be read."""

    path: Path
    number: int

    def index(self) -> Index:
        rows = list(self.generations(say=False))
        return Index(
            as_keys([row.key for row in rows]),
            np.array([row.failure is not None for row in rows], bool),
            np.array([row.attempt for row in rows], np.int32),
        )

    def generations(self, *, say: bool = True) -> Iterator[StoredGeneration]:
        """The complete rows of the journal; prints how many lines were skipped, if ``say`` is True.

        Raises:
          StoreError: the journal cannot be read.
        """
        try:
            with reading(self.path):
                lines = read_journal(self.path)
        except StoreError as error:
            if not isinstance(error.__cause__, FileNotFoundError):
                raise
            # The journal became a part after the folder was read. The part has the same rows in the same order.
            yield from _part_of_journal(self.path.parent, self.number).generations()
            return
        torn = 0
        with reading(self.path):
            for row in lines:
                if row is None:
                    torn += 1
                else:
                    yield row
        if torn and say:
            tell(f"{self.path}: {torn} unfinished or damaged lines are skipped; fsa teach sends their requests again")


def _part_of_journal(folder: Path, number: int) -> Part:
    for part in contents(folder).parts:
        if part.first <= number <= part.last:
            if part.first == part.last:
                return part
            break
    raise StoreError(
        journal_path(folder, number),
        expected="a journal",
        found="nothing: a job has just merged it",
        fix="run the command again",
    )


@dataclass(frozen=True)
class Contents:
    """The files of a shard's folder, sorted by number.

    Attributes:
      parts: valid parts.
      journals: journals that no part covers.
      leftovers: obsolete files; they may be deleted once the parts are verified.
      set_aside: parts and journals that a user renamed to ``….damaged``; their generations count as missing.
      listed: content of the list of checksums; None if there is no list.
      next_number: number of the next journal.
    """

    parts: list[Part]
    journals: list[SealedJournal]
    leftovers: list[Path]
    set_aside: list[Path]
    listed: PartList | None
    next_number: int

    def say_what_is_unsure(self) -> None:
        """Prints which parts cannot be verified, and which files are set aside as damaged."""
        if unknown := [part.path for part in self.parts if part.digest is None]:
            tell(f"{unknown[0].parent}: {len(unknown)} parts of an earlier version have no checksums: not verified")
        for path in self.set_aside:
            tell(f"{path}: set aside as damaged; fsa teach sends its requests again")


def shard_folders(root: Path) -> list[Path]:
    """The folders of a store's shards; other files and folders are ignored."""
    return sorted(path for path in root.glob("shard-*-of-*") if _SHARD.fullmatch(path.name) and path.is_dir())


def contents(folder: Path) -> Contents:
    """Reads a shard's folder; a folder that does not exist counts as empty.

    Raises:
      StoreError: a part or a journal is missing, parts overlap, or the list is damaged.
    """
    for seconds in _LOOKS:
        try:
            return _look(folder)
        except StoreError:
            time.sleep(seconds)
    return _look(folder)


def journal_path(folder: Path, number: int) -> Path:
    return folder / f"journal-{number:08d}.jsonl"


def fold(folder: Path, journal: SealedJournal, *, say: bool = True) -> Part | None:
    """Converts a journal into a part and deletes it; a journal without a complete row is only deleted."""
    part = None
    rows = journal.generations(say=say)
    if first := list(islice(rows, ROW_GROUP)):
        rest = iter(lambda: list(islice(rows, ROW_GROUP)), [])
        part = write_part(folder, journal.number, journal.number, map(as_table, chain([first], rest)))
    else:
        change_list(folder, journal=None)
    with storing(journal.path):
        journal.path.unlink()
    return part


_Numbers = tuple[int, int]


def _numbers(name: str) -> _Numbers | None:
    if found := _PART.fullmatch(name):
        return int(found[1]), int(found[2])
    if found := _JOURNAL.fullmatch(name):
        return int(found[1]), int(found[1])
    return None


def _covered(numbers: _Numbers, by: Iterable[_Numbers]) -> bool:
    first, last = numbers
    for start, end in sorted(by):
        if start <= first <= end:
            first = end + 1
    return first > last


def _look(folder: Path) -> Contents:
    with reading(folder):
        names = sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []
    listed = read_list(folder) if names else None
    digests = listed.digests if listed else {}
    parts, journals, leftovers, set_aside = [], [], [], []
    there: list[_Numbers] = []
    for name in names:
        path = folder / name
        if (numbers := _numbers(name.removesuffix(DAMAGED))) is not None:
            there.append(numbers)
            if name.endswith(DAMAGED):
                set_aside.append(path)
            elif name.startswith("part-"):
                parts.append(Part(path, *numbers, digests.get(name)))
            else:
                journals.append(SealedJournal(path, numbers[0]))
        elif name.endswith(ASIDE) and (name == LIST + ASIDE or _PART.fullmatch(name.removesuffix(ASIDE))):
            leftovers.append(path)
    live = []
    for part in parts:
        wider = [(other.first, other.last) for other in parts if other.last > other.first and other != part]
        done = any(first <= part.first and part.last <= last for first, last in wider)
        (leftovers.append(part.path) if done else live.append(part))
    numbers = [(part.first, part.last) for part in live]
    _require_order(live)
    open_journals = []
    for journal in journals:
        done = _covered((journal.number, journal.number), numbers)
        (leftovers.append(journal.path) if done else open_journals.append(journal))
    for name in [*digests, *([listed.journal] if listed and listed.journal else [])]:
        expected = _numbers(name)
        if expected is not None and not _covered(expected, there):
            raise StoreError(
                folder / name, expected=f"a file that {LIST} names", found="nothing", fix=ask_again(folder / name)
            )
    next_number = max((last for _, last in there), default=-1) + 1
    return Contents(live, open_journals, leftovers, set_aside, listed, next_number)


def _require_order(parts: list[Part]) -> None:
    ordered = sorted(parts, key=lambda part: part.first)
    bad = [part for part in ordered if part.first > part.last]
    bad += [part for before, part in pairwise(ordered) if part.first <= before.last]
    if bad:
        raise StoreError(
            bad[0].path,
            expected="parts whose numbers do not overlap",
            found="numbers that another part has too",
            fix=f"if it does not belong to this store, move it away, or {ask_again(bad[0].path)}",
        )
