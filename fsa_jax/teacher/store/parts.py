"""The Parquet parts of a shard: written aside, synced, renamed, never changed.

``part-00000003-00000007.parquet`` holds what journals 3 to 7 held. A part of one journal is named 3-3. The rename is
the one moment that counts: a journal whose number a part covers is done with, a part whose numbers a larger part
covers is done with, and a killed job may leave either behind for the next one to delete.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path

import numpy as np
import pyarrow
import pyarrow.parquet
from numpy.typing import NDArray

from fsa_jax.teacher.key_set import KEYS, Keys, as_keys
from fsa_jax.teacher.store.errors import StoreError, storing
from fsa_jax.teacher.store.journal import read_journal, sync_directory
from fsa_jax.teacher.store.rows import SCHEMA, StoredGeneration, as_table, from_batch

_PART = re.compile(r"part-(\d{8})-(\d{8})\.parquet")
_JOURNAL = re.compile(r"journal-(\d{8})\.jsonl")
_ASIDE = ".aside"

ROW_GROUP = 4096


@dataclass(frozen=True)
class Index:
    """What a store needs to know of every generation without reading it; arrays of shape (n,)."""

    keys: Keys
    failed: NDArray[np.bool_]
    attempts: NDArray[np.int32]


@dataclass(frozen=True)
class Part:
    """A Parquet part that holds the journals ``first`` to ``last``."""

    path: Path
    first: int
    last: int

    def _open(self) -> pyarrow.parquet.ParquetFile:
        try:
            return pyarrow.parquet.ParquetFile(self.path)
        except FileNotFoundError as error:
            raise StoreError(
                self.path, expected="a part", found="nothing: a job has just merged it", fix="run the command again"
            ) from error
        except pyarrow.ArrowInvalid as error:
            raise StoreError(
                self.path,
                expected="a Parquet part",
                found=str(error),
                fix="the disk has damaged it: restore it, or delete it to have its generations made again",
            ) from error

    @property
    def rows(self) -> int:
        with self._open() as file:
            return file.metadata.num_rows

    def index(self) -> Index:
        with self._open() as file:
            table = file.read(["key", "failure", "attempt"])
        keys = table["key"].combine_chunks()
        start = keys.offset * KEYS.itemsize
        raw = keys.buffers()[1].to_pybytes()[start : start + len(keys) * KEYS.itemsize] if len(keys) else b""
        return Index(
            np.frombuffer(raw, KEYS),
            table["failure"].is_valid().to_numpy(),
            table["attempt"].to_numpy().astype(np.int32),
        )

    def batches(self) -> Iterator[pyarrow.RecordBatch]:
        with self._open() as file:
            yield from file.iter_batches(batch_size=ROW_GROUP)

    def generations(self) -> Iterator[StoredGeneration]:
        for batch in self.batches():
            yield from from_batch(batch)


@dataclass(frozen=True)
class SealedJournal:
    """A journal that no part covers yet, read only."""

    path: Path
    number: int

    def index(self) -> Index:
        rows = list(self.generations())
        return Index(
            as_keys([row.key for row in rows]),
            np.array([row.failure is not None for row in rows], bool),
            np.array([row.attempt for row in rows], np.int32),
        )

    def generations(self) -> Iterator[StoredGeneration]:
        try:
            lines = read_journal(self.path)
        except FileNotFoundError:
            # Folded since the folder was listed; the part was there before the journal went, rows in the same order.
            yield from part_of(self.path.parent, self.number, self.number).generations()
            return
        yield from (row for row in lines if row is not None)


@dataclass(frozen=True)
class Contents:
    """The files of a shard's folder, sorted by number; ``leftovers`` are done with and may be deleted."""

    parts: list[Part]
    journals: list[SealedJournal]
    leftovers: list[Path]

    @property
    def next_number(self) -> int:
        return max([-1, *(part.last for part in self.parts), *(journal.number for journal in self.journals)]) + 1


def contents(folder: Path) -> Contents:
    """Looks through a shard's folder; an absent one is empty."""
    parts, journals, leftovers = [], [], []
    for path in sorted(folder.iterdir()) if folder.is_dir() else ():
        if found := _PART.fullmatch(path.name):
            parts.append(Part(path, int(found[1]), int(found[2])))
        elif found := _JOURNAL.fullmatch(path.name):
            journals.append(SealedJournal(path, int(found[1])))
        elif path.name.endswith(_ASIDE):
            leftovers.append(path)

    def covered(first: int, last: int, by: Iterable[Part]) -> bool:
        return any(part.first <= first and last <= part.last for part in by)

    merged = [part for part in parts if part.last > part.first]
    live = []
    for part in parts:
        wider = [other for other in merged if other != part]
        (leftovers.append(part.path) if covered(part.first, part.last, wider) else live.append(part))
    open_journals = []
    for journal in journals:
        if covered(journal.number, journal.number, live):
            leftovers.append(journal.path)
        else:
            open_journals.append(journal)
    return Contents(live, open_journals, leftovers)


def part_of(folder: Path, first: int, last: int) -> Part:
    """The part of some journals, by name; it need not be there."""
    return Part(folder / f"part-{first:08d}-{last:08d}.parquet", first, last)


def journal_path(folder: Path, number: int) -> Path:
    return folder / f"journal-{number:08d}.jsonl"


def write_part(folder: Path, first: int, last: int, tables: Iterable[pyarrow.Table]) -> Part:
    """Writes a part so that it is there whole or not at all.

    Raises:
      StoreError: the disk does not take it; nothing is left of it.
    """
    part = part_of(folder, first, last)
    aside = part.path.with_name(part.path.name + _ASIDE)
    with storing(part.path):
        try:
            with pyarrow.parquet.ParquetWriter(aside, SCHEMA, compression="zstd") as writer:
                for table in tables:
                    writer.write_table(table, row_group_size=ROW_GROUP)
            with aside.open("rb+") as file:
                os.fsync(file.fileno())
            aside.replace(part.path)
        finally:
            aside.unlink(missing_ok=True)
        sync_directory(folder)
    return part


def fold(folder: Path, journal: SealedJournal) -> Part | None:
    """Turns a journal into a part and deletes it; a journal without a whole row is only deleted."""
    part = None
    rows = journal.generations()
    if first := list(islice(rows, ROW_GROUP)):
        rest = iter(lambda: list(islice(rows, ROW_GROUP)), [])
        part = write_part(folder, journal.number, journal.number, map(as_table, chain([first], rest)))
    with storing(journal.path):
        journal.path.unlink()
    return part


def merge(folder: Path, parts: list[Part]) -> Part:
    """Turns neighbouring parts into one and deletes them."""
    tables = (pyarrow.Table.from_batches([batch]).cast(SCHEMA) for part in parts for batch in part.batches())
    merged = write_part(folder, parts[0].first, parts[-1].last, tables)
    with storing(folder):
        for part in parts:
            part.path.unlink()
    return merged
