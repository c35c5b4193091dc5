"""The columns of a stored generation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from operator import attrgetter
from typing import Any

import pyarrow

from fsa_base import untrusted_json
from fsa_jax.common.records import UNDERSTANDINGS, Generation, Understanding
from fsa_jax.teacher.answers import CUT_OFF, failure_reason
from fsa_jax.teacher.generation_requests import KEY_BYTES, key_beginning, request_key, review_identity

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
        pyarrow.field("text", pyarrow.string()),  # cut-off and refused answers have the text up to there
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
    """The rows of a batch of SCHEMA.

    Raises:
      ValueError: a value is impossible for a generation.
    """
    columns = [batch.column(name).to_pylist() for name in SCHEMA.names]
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
