"""The files of a shard's folder: the journal, and which parts and journals are valid, obsolete or missing.

A generation survives a kill once ``Journal.append`` returns, and a power cut after the next ``sync``. Each line of a
journal is one generation: eight hexadecimal digits of CRC-32, a space, and a JSON array of the columns. A line that was
incomplete when the machine died fails its checksum and is skipped; its request is sent again.

A journal is obsolete if a part covers its number. A part is obsolete if a larger part covers its numbers. A killed job
may leave obsolete files behind; the next job deletes them.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import threading
import time
import zlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import chain, islice, pairwise
from pathlib import Path
from typing import IO

import numpy as np

from fsa_base import untrusted_json
from fsa_base.disk import sync
from fsa_base.errors import SettingError
from fsa_jax.teacher.store.errors import DAMAGED, StoreError, ask_again, reading, storing, tell
from fsa_jax.teacher.store.key_set import as_keys
from fsa_jax.teacher.store.part_list import ASIDE, LIST, PartList, change_list, read_list
from fsa_jax.teacher.store.parts import (
    ROW_GROUP,
    Index,
    Part,
    StoredGeneration,
    as_table,
    columns_of,
    from_columns,
    write_part,
)

LINE_BYTES = 16 << 20
"""Limit on the length of a line. A longer line was not written by this module and is skipped, in pieces."""


def _line(row: StoredGeneration) -> bytes:
    key, *rest = columns_of(row)
    payload = json.dumps([key.hex(), *rest], separators=(",", ":")).encode()
    return b"%08x %b\n" % (zlib.crc32(payload), payload)


def _parse(line: bytes) -> StoredGeneration | None:
    if len(line) < 10 or not line.endswith(b"\n"):
        return None
    payload = line[9:-1]
    if line[:9] != b"%08x " % zlib.crc32(payload):
        return None
    try:
        key, *rest = untrusted_json.parse(payload, lone_surrogates=True)
        # Version 528859f could write half a surrogate pair, which Parquet cannot store.
        rest = [value.encode(errors="replace").decode() if isinstance(value, str) else value for value in rest]
        return from_columns([bytes.fromhex(key), *rest])
    except (ValueError, TypeError):
        return None


def _lines(file: IO[bytes]) -> Iterator[bytes]:
    return iter(lambda: file.readline(LINE_BYTES), b"")


def read_journal(path: Path) -> Iterator[StoredGeneration | None]:
    """Rows in the order in which they were written; None for a damaged line. Opens the file at once, reads it
    lazily."""
    file = path.open("rb")

    def rows() -> Iterator[StoredGeneration | None]:
        with file:
            yield from map(_parse, _lines(file))

    return rows()


class Journal:
    """The journal file that is being written.

    Args:
      path: path of the journal. A new file is created; an existing one is continued after its last complete line.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.rows = 0
        self.torn = 0
        self._syncing = threading.Lock()
        with storing(path):
            whole = at = 0
            if path.exists():
                with path.open("rb") as file:
                    for line in _lines(file):
                        torn = _parse(line) is None
                        self.torn += torn
                        self.rows += not torn
                        at += len(line)
                        # An incomplete last line is overwritten. Damaged lines with a line end are skipped by readers.
                        whole = at if line.endswith(b"\n") else whole
            self._file = path.open("r+b" if path.exists() else "xb", buffering=0)
            self._file.truncate(whole)
            self._file.seek(whole)
            self._size = whole
            os.fsync(self._file.fileno())
            sync(path.parent, recursive=False)

    def append(self, rows: Sequence[StoredGeneration]) -> None:
        """Writes rows. Once it returns, they survive the end of this process, even a kill.

        Raises:
          StoreError: the rows cannot be written; earlier rows are intact.
        """
        data = memoryview(b"".join(map(_line, rows)))
        size = self._size + len(data)
        with storing(self.path):
            try:
                while data:
                    data = data[self._file.write(data) :]
            except OSError:
                # An incomplete line is harmless (it fails its checksum), but it uses space on a full disk.
                with suppress(OSError):
                    self._file.truncate(self._size)
                    self._file.seek(self._size)
                raise
        self._size = size
        self.rows += len(rows)

    def sync(self) -> None:
        """Makes the appended rows survive a power cut. Does nothing if the journal is closed already.

        Raises:
          StoreError: the sync failed.
        """
        with self._syncing, storing(self.path):
            if not self._file.closed:
                os.fsync(self._file.fileno())

    def close(self) -> None:
        with self._syncing:
            self._file.close()


_PART = re.compile(r"part-(\d{8})-(\d{8})\.parquet")
_JOURNAL = re.compile(r"journal-(\d{8})\.jsonl")
_SHARD = re.compile(r"shard-\d{5}-of-\d{5}")
_LOOKS = (0.02, 0.1)
"""Seconds to wait before reading again: a job may commit a part after the folder was read and before its list is."""


@dataclass(frozen=True)
class Shard:
    """Part ``index`` of ``count`` parts of a job, split by review. Each machine can do one; they share only the
    input."""

    index: int = 0
    count: int = 1

    @classmethod
    def parse(cls, text: str) -> Shard:
        """Parses ``i/n`` with ``i`` from 0 to n-1.

        Raises:
          SettingError: the text has another format.
        """
        index, _, count = text.partition("/")
        if not (index.isdecimal() and count.isdecimal() and 0 <= int(index) < int(count) < 100_000):
            raise SettingError(
                "--shard", expected="i/n with i from 0 to n-1", found=repr(text), fix="the first of four is 0/4"
            )
        return cls(int(index), int(count))

    def holds(self, review_id: str) -> bool:
        """Whether the review belongs to this shard. All samples and prompts of a review are in the same shard."""
        if self.count == 1:
            return True
        digest = hashlib.blake2b(review_id.encode("utf-8", "surrogatepass"), digest_size=8).digest()
        return int.from_bytes(digest, "big") % self.count == self.index

    @property
    def folder(self) -> str:
        return f"shard-{self.index:05d}-of-{self.count:05d}"


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

    def generations(self, *, texts: bool = True, say: bool = True) -> Iterator[StoredGeneration]:
        """The complete rows of the journal; prints how many lines were skipped, if ``say`` is True.

        Args:
          texts: whether the rows have their texts, as for a part.
          say: whether to print.

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
            yield from _part_of_journal(self.path.parent, self.number).generations(texts=texts)
            return
        torn = 0
        with reading(self.path):
            for row in lines:
                if row is None:
                    torn += 1
                else:
                    yield row if texts else replace(row, text=None)
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
