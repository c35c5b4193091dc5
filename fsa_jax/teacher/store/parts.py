"""The Parquet parts of a shard: written under a temporary name, synced, listed with their SHA-256, renamed, never
changed.

``part-00000003-00000007.parquet`` has the rows of journals 3 to 7; a part of journal 3 alone has the numbers 3 and 3.
The rename makes a part valid and its journals obsolete (see ``layout``).
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pyarrow
import pyarrow.parquet
from numpy.typing import NDArray

from fsa_base.checksums import file_digest
from fsa_base.disk import sync
from fsa_jax.teacher.key_set import KEYS, Keys
from fsa_jax.teacher.store.errors import StoreError, ask_again, storing
from fsa_jax.teacher.store.part_list import ASIDE, LIST, anew, change_list
from fsa_jax.teacher.store.rows import SCHEMA, StoredGeneration, from_batch

ROW_GROUP = 4096
_LISTED = {b"fsa_jax.checksums": LIST.encode()}
"""Metadata of every part that has a line in the list; parts of version 528859f have neither."""


@dataclass(frozen=True)
class Index:
    """The columns that a store needs of every generation, without its text; arrays of shape (n,)."""

    keys: Keys
    failed: NDArray[np.bool_]
    attempts: NDArray[np.int32]


@dataclass(frozen=True)
class Part:
    """A Parquet part with the rows of journals ``first`` to ``last``; ``digest`` is its SHA-256, if known.

    Every method that reads the part raises:
      StoreError: the file has changed since it was written, is not a part, or is missing.
    """

    path: Path
    first: int
    last: int
    digest: str | None = None

    @cached_property
    def _whole(self) -> bool:
        with self._readable():
            if self.digest is not None and file_digest(self.path) != self.digest:
                raise ValueError(f"its SHA-256 differs from the one in {LIST}")
        return True

    def verify(self) -> None:
        """Compares the part with its checksum, once per object. A part without a checksum is not compared."""
        assert self._whole

    @contextmanager
    def _readable(self) -> Iterator[None]:
        try:
            yield
        except FileNotFoundError as error:
            raise StoreError(
                self.path, expected="a part", found="nothing: a job has just merged it", fix="run the command again"
            ) from error
        # pyarrow raises all of these for damaged files. UnicodeDecodeError and UntrustedJsonError are ValueErrors.
        except (pyarrow.ArrowException, OSError, ValueError, IndexError, MemoryError) as error:
            found = " ".join(str(error).split())[:300]
            raise StoreError(self.path, expected="a whole part", found=found, fix=ask_again(self.path)) from error

    def _open(self) -> pyarrow.parquet.ParquetFile:
        self.verify()
        file = pyarrow.parquet.ParquetFile(self.path)
        if not file.schema_arrow.equals(SCHEMA):
            file.close()
            raise ValueError("Parquet with other columns")
        if self.digest is None and _LISTED.keys() <= (file.schema_arrow.metadata or {}).keys():
            file.close()
            raise StoreError(
                self.path,
                expected=f"a part with a line in {LIST}",
                found="none",
                fix=f"restore {LIST}, or {anew(self.path.parent)}",
            )
        if self.digest is None and not _agrees(file.metadata):
            file.close()
            raise ValueError("the numbers of rows in its metadata do not agree")
        return file

    @property
    def rows(self) -> int:
        """Number of rows according to the file's metadata; nothing else is read."""
        with self._readable(), pyarrow.parquet.ParquetFile(self.path) as file:
            return file.metadata.num_rows

    def index(self) -> Index:
        with self._readable():
            with self._open() as file:
                table = file.read(["key", "failure", "attempt"])
            table.validate(full=True)
            keys = table["key"].combine_chunks()
            start = keys.offset * KEYS.itemsize
            raw = keys.buffers()[1].to_pybytes()[start : start + len(keys) * KEYS.itemsize] if len(keys) else b""
            attempts = table["attempt"].to_numpy().astype(np.int32)
            if self.digest is None and len(set(zip(keys.to_pylist(), attempts.tolist(), strict=True))) < len(keys):
                raise ValueError("the same generation twice")
            return Index(np.frombuffer(raw, KEYS), table["failure"].is_valid().to_numpy(), attempts)

    def batches(self) -> Iterator[pyarrow.RecordBatch]:
        with self._readable(), self._open() as file:
            missing = file.metadata.num_rows
            for batch in file.iter_batches(batch_size=ROW_GROUP):
                batch.validate(full=True)
                missing -= batch.num_rows
                yield batch
            if missing:
                raise ValueError(f"{missing} rows fewer than its metadata says")

    def generations(self) -> Iterator[StoredGeneration]:
        for batch in self.batches():
            with self._readable():
                rows = from_batch(batch)
            yield from rows


def _agrees(metadata: pyarrow.parquet.FileMetaData) -> bool:
    """Whether all row counts in the metadata of a file agree and are not 0."""
    groups = [metadata.row_group(i) for i in range(metadata.num_row_groups)]
    values = [[group.column(i).num_values for i in range(group.num_columns)] for group in groups]
    whole = all(set(counts) == {group.num_rows} for group, counts in zip(groups, values, strict=True))
    return whole and 0 < metadata.num_rows == sum(group.num_rows for group in groups)


def write_part(folder: Path, first: int, last: int, tables: Iterable[pyarrow.Table]) -> Part:
    """Writes a part atomically; its line in the list is written first.

    Raises:
      StoreError: the part cannot be written; no file of it is left.
    """
    path = folder / f"part-{first:08d}-{last:08d}.parquet"
    aside = path.with_name(path.name + ASIDE)
    with storing(path):
        try:
            with pyarrow.parquet.ParquetWriter(aside, SCHEMA.with_metadata(_LISTED), compression="zstd") as writer:
                for table in tables:
                    writer.write_table(table, row_group_size=ROW_GROUP)
            with aside.open("rb+") as file:
                os.fsync(file.fileno())
            digest = file_digest(aside)
            change_list(folder, {path.name: digest})
            aside.replace(path)
        finally:
            aside.unlink(missing_ok=True)
        sync(folder, recursive=False)
    return Part(path, first, last, digest)


def merge(folder: Path, parts: list[Part]) -> Part:
    """Merges consecutive parts into one and deletes them."""
    tables = (pyarrow.Table.from_batches([batch]).cast(SCHEMA) for part in parts for batch in part.batches())
    merged = write_part(folder, parts[0].first, parts[-1].last, tables)
    with storing(folder):
        for part in parts:
            part.path.unlink()
    return merged
