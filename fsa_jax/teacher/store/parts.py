"""The rows of a store with their keys, and the Parquet parts of a shard that hold them.

A part is written under a temporary name, synced, listed with its SHA-256, renamed, and never changed.
``part-00000003-00000007.parquet`` has the rows of journals 3 to 7; a part of journal 3 alone has the numbers 3 and 3.
The rename makes a part valid and its journals obsolete (see ``shard_files``).
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields
from functools import cached_property, lru_cache
from operator import attrgetter
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import pyarrow.parquet
from numpy.typing import NDArray

from fsa_base import untrusted_json
from fsa_base.checksums import file_digest
from fsa_base.disk import sync
from fsa_jax.common.records import UNDERSTANDINGS, Generation, Understanding
from fsa_jax.teacher.answers import CUT_OFF, failure_reason
from fsa_jax.teacher.store.errors import StoreError, ask_again, storing
from fsa_jax.teacher.store.key_set import KEY_BYTES, KEYS, Keys
from fsa_jax.teacher.store.part_list import ASIDE, LIST, anew, change_list


@lru_cache(maxsize=1000)
def key_beginning(teacher: str, revision: str | None, sampling: str, seed: int, prompt_hash: str) -> hashlib.blake2b:
    """The hash state of the part of a key that is the same for all reviews; copy it and add each review.

    Args:
      teacher: name of the teacher.
      revision: revision of the teacher's weights.
      sampling: SamplingSettings.canonical, as in the store.
      seed: random seed of the job.
      prompt_hash: hash of the prompt.
    """
    constant = [teacher, revision, sampling, seed, prompt_hash]
    return hashlib.blake2b(json.dumps(constant).encode(), digest_size=KEY_BYTES)


def review_identity(review_id: str, text: str) -> bytes:
    """The part of a key that depends on the review."""
    # The length separates id and text; without it ("ab", "c") and ("a", "bc") would have the same key.
    return f"\0{len(review_id)}\0{review_id}\0{text}".encode("utf-8", "surrogatepass")


def request_key(beginning: hashlib.blake2b, sample: int, identity: bytes) -> bytes:
    """The key of a request: from the key_beginning of its teacher and prompt, and the review_identity of its review."""
    state = beginning.copy()
    state.update(b"\0%d" % sample)
    state.update(identity)
    return state.digest()


_REPEATED = pyarrow.dictionary(pyarrow.int32(), pyarrow.string())

SCHEMA = pyarrow.schema(
    [
        pyarrow.field("key", pyarrow.binary(KEY_BYTES), nullable=False),
        pyarrow.field("review_id", pyarrow.string(), nullable=False),
        pyarrow.field("understanding", _REPEATED, nullable=False),
        pyarrow.field("prompt", _REPEATED, nullable=False),
        pyarrow.field("prompt_hash", _REPEATED, nullable=False),
        pyarrow.field("teacher", _REPEATED, nullable=False),
        pyarrow.field("teacher_revision", _REPEATED),
        pyarrow.field("sampling", _REPEATED, nullable=False),  # JSON
        pyarrow.field("seed", pyarrow.int64(), nullable=False),
        pyarrow.field("sample", pyarrow.int32(), nullable=False),
        pyarrow.field("attempt", pyarrow.int32(), nullable=False),
        pyarrow.field("text", pyarrow.string()),  # of cut-off and refused answers, the text until they stopped
        pyarrow.field("failure", pyarrow.string()),
        pyarrow.field("input_tokens", pyarrow.int32()),
        pyarrow.field("output_tokens", pyarrow.int32()),
        pyarrow.field("finished", pyarrow.float64(), nullable=False),  # seconds since 1970
        pyarrow.field("seconds", pyarrow.float32(), nullable=False),  # from sending the request to receiving the answer
        pyarrow.field("devices", pyarrow.int32(), nullable=False),  # accelerators of the engine; 0: none or unknown
    ]
)


@dataclass(slots=True)
class StoredGeneration:
    """One row of the store; the fields are the columns of SCHEMA in order."""

    key: bytes
    review_id: str
    understanding: Understanding
    prompt: str
    prompt_hash: str
    teacher: str
    teacher_revision: str | None
    sampling: str
    seed: int
    sample: int
    attempt: int
    text: str | None
    failure: str | None
    input_tokens: int | None
    output_tokens: int | None
    finished: float
    seconds: float
    devices: int

    def is_about(self, text: str) -> bool:
        """Whether its request was about this text of the review. The store lacks the text, but the key depends on
        it."""
        beginning = key_beginning(self.teacher, self.teacher_revision, self.sampling, self.seed, self.prompt_hash)
        return self.key == request_key(beginning, self.sample, review_identity(self.review_id, text))

    def generation(self, *, keep_cut_off: bool = False) -> Generation:
        """The row as a Generation, the type that the rest of the project uses.

        Args:
          keep_cut_off: whether an answer that was cut off at max_tokens becomes a Generation with its text, for checks
            that repair such text. Otherwise it becomes a failure without text.
        """
        kept = keep_cut_off and self.failure is not None and failure_reason(self.failure) == CUT_OFF and self.text
        answered = self.failure is None or kept
        return Generation(
            review_id=self.review_id,
            understanding=self.understanding,
            prompt_hash=self.prompt_hash,
            teacher=self.teacher,
            teacher_revision=self.teacher_revision,
            sampling=_parse_sampling(self.sampling),
            seed=self.seed,
            sample=self.sample,
            text=self.text if answered else None,
            failure=None if answered else self.failure,
            input_tokens=self.input_tokens,
            output_tokens=self.output_tokens,
        )


columns_of = attrgetter(*(field.name for field in fields(StoredGeneration)))
"""The values of a row in the order of SCHEMA."""

_sampling_cache: dict[str, dict[str, Any]] = {}


def _parse_sampling(text: str) -> dict[str, Any]:
    # A store has few different settings but millions of rows.
    if text not in _sampling_cache:
        if len(_sampling_cache) > 1000:
            _sampling_cache.clear()
        settings = untrusted_json.parse(text)
        if not isinstance(settings, dict):
            raise ValueError("sampling settings that are not a JSON object")
        _sampling_cache[text] = settings
    return dict(_sampling_cache[text])


def as_table(rows: Sequence[StoredGeneration]) -> pyarrow.Table:
    """Rows as a table of SCHEMA."""
    columns = zip(*map(columns_of, rows), strict=True) if rows else [[] for _ in SCHEMA]
    arrays = [pyarrow.array(column, field.type) for column, field in zip(columns, SCHEMA, strict=True)]
    return pyarrow.Table.from_arrays(arrays, schema=SCHEMA)


def from_batch(batch: pyarrow.RecordBatch) -> list[StoredGeneration]:
    """The rows of a batch of SCHEMA, or of a batch without the column ``text``.

    Raises:
      ValueError: a value is impossible for a generation.
    """
    no_text = [None] * batch.num_rows
    columns = [batch.column(name).to_pylist() if name in batch.schema.names else no_text for name in SCHEMA.names]
    rows = [StoredGeneration(*values) for values in zip(*columns, strict=True)]
    for row in rows:
        _check(row)
    return rows


def from_columns(values: Sequence[Any]) -> StoredGeneration:
    """Makes a row from values in the order of SCHEMA.

    Raises:
      ValueError: the number or the types of the values are wrong, or a value is impossible for a generation.
    """
    for value, column in zip(values, SCHEMA, strict=True):
        if value is None and column.nullable:
            continue
        kind = _KINDS[column.type]
        if isinstance(value, bool) or not isinstance(value, kind):
            raise ValueError(f"{column.name} has type {type(value).__name__}")
        if kind is int and not -(2 ** (column.type.bit_width - 1)) <= value < 2 ** (column.type.bit_width - 1):
            raise ValueError(f"{column.name} is {value}")
    row = StoredGeneration(*values)
    if len(row.key) != KEY_BYTES:
        raise ValueError(f"a key of {len(row.key)} bytes")
    _check(row)
    return row


_KINDS: dict[pyarrow.DataType, Any] = {
    pyarrow.binary(KEY_BYTES): bytes,
    pyarrow.string(): str,
    _REPEATED: str,
    pyarrow.int32(): int,
    pyarrow.int64(): int,
    pyarrow.float32(): int | float,
    pyarrow.float64(): int | float,
}


def _check(row: StoredGeneration) -> None:
    if row.understanding not in UNDERSTANDINGS:
        raise ValueError(f"an understanding {row.understanding!r}")
    if row.sampling not in _sampling_cache:
        _parse_sampling(row.sampling)


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

    def batches(self, columns: Sequence[str] | None = None) -> Iterator[pyarrow.RecordBatch]:
        with self._readable(), self._open() as file:
            missing = file.metadata.num_rows
            for batch in file.iter_batches(batch_size=ROW_GROUP, columns=columns):
                batch.validate(full=True)
                missing -= batch.num_rows
                yield batch
            if missing:
                raise ValueError(f"{missing} rows fewer than its metadata says")

    def generations(self, *, texts: bool = True) -> Iterator[StoredGeneration]:
        """The rows of the part; without ``texts`` their texts are not read and are None."""
        for batch in self.batches(None if texts else [name for name in SCHEMA.names if name != "text"]):
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
