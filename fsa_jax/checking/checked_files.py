"""Parquet parts of checked generations: what ``fsa check`` writes and ``fsa corpus`` reads."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet

from fsa_base.errors import DataError, MissingDataError, SettingError
from fsa_jax.checking.assess import CheckedGeneration
from fsa_jax.common import output_checksums
from fsa_jax.common.atomic_directory import only_files

_TEXT, _NUMBER, _WHOLE = pyarrow.string(), pyarrow.float64(), pyarrow.int64()
SCHEMA = pyarrow.schema(
    [
        ("review_id", _TEXT),
        ("review", _TEXT),
        ("stars", _NUMBER),
        ("domain", _TEXT),
        ("understanding", _TEXT),
        ("response", _TEXT),
        ("teacher", _TEXT),
        ("teacher_revision", _TEXT),
        ("prompt_hash", _TEXT),
        ("sampling", _TEXT),
        ("seed", _WHOLE),
        ("sample", _WHOLE),
        ("verdict", _TEXT),
        ("reason", _TEXT),
        ("repairs", pyarrow.list_(_TEXT)),
        ("inventions", pyarrow.list_(_TEXT)),
        ("opinions", _WHOLE),
        ("hallucination", _NUMBER),
        ("lean", _NUMBER),
        ("stars_gap", _NUMBER),
        ("partner_gap", _NUMBER),
        ("implicit_share", _NUMBER),
    ]
)
"""One row per generation: its review, the origin of the text, and the scores of the check
(assess.CheckedGeneration)."""

COUNTS, PAGE = "check.json", "check.html"
FOREIGN = only_files(
    "kept/part-*.parquet",
    "dropped/part-*.parquet",
    COUNTS,
    PAGE,
    *output_checksums.FILES,
    # Files that an earlier version left behind when it was killed.
    "kept/.part-*",
    "dropped/.part-*",
    ".check*/*.sqlite",
    ".check*/assessed.jsonl",
    "tmp*/reviews.sqlite",
    marks=["kept/part-*.parquet", COUNTS, ".check*/notes.sqlite", "tmp*/reviews.sqlite"],
)
"""Recognises the output of a check, finished or not."""

AGAIN = "run fsa check again, with --overwrite"
_DETAIL_CHARACTERS = 300

PART_ROWS = 50_000
_GROUP_ROWS = 5_000
_GROUP_CHARACTERS = 100_000_000
"""Limit on the characters of reviews and texts in a row group, because a group is kept in memory. Ordinary groups have
a twentieth of it."""


def as_row(checked: CheckedGeneration) -> dict[str, Any]:
    """A checked generation as a row: values by the column names of SCHEMA."""
    review, generation = checked.review, checked.generation
    return {
        "review_id": review.id,
        "review": review.text,
        "stars": review.stars,
        "domain": review.domain,
        "understanding": generation.understanding,
        "response": checked.response,
        "teacher": generation.teacher,
        "teacher_revision": generation.teacher_revision,
        "prompt_hash": generation.prompt_hash,
        "sampling": json.dumps(generation.sampling, sort_keys=True),
        "seed": generation.seed,
        "sample": generation.sample,
        "verdict": checked.verdict,
        "reason": checked.reason,
        "repairs": list(checked.repairs),
        "inventions": list(checked.inventions),
        "opinions": len(checked.sentiments),
        "hallucination": checked.hallucination,
        "lean": checked.lean,
        "stars_gap": checked.stars_gap,
        "partner_gap": checked.partner_gap,
        "implicit_share": checked.implicit_share,
    }


class PartWriter:
    """Writes rows to ``part-00000.parquet``, ``part-00001.parquet`` … in a new or empty folder. A context manager."""

    def __init__(self, folder: Path):
        self._folder = folder
        self._rows: list[dict[str, Any]] = []
        self._writer: pyarrow.parquet.ParquetWriter | None = None
        self._part = 0
        self._in_part = 0
        self._characters = 0

    def __enter__(self) -> PartWriter:
        self._folder.mkdir(parents=True, exist_ok=True)
        if any(self._folder.iterdir()):  # the files of two checks must never mix
            raise SettingError(
                self._folder, expected="an empty folder", found="files in it", fix="choose another output"
            )
        return self

    def write(self, row: dict[str, Any]) -> None:
        self._rows.append(row)
        self._characters += len(row["review"]) + len(row["response"])
        if len(self._rows) >= _GROUP_ROWS or self._characters >= _GROUP_CHARACTERS:
            self._flush()
        if self._in_part >= PART_ROWS:
            self._close()

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        if kind is None:
            self._flush()
            if self._writer is None and self._part == 0:
                self._open()  # a check without rows is valid: its file has only the schema
            self._close()
        elif self._writer is not None:
            self._writer.close()

    def _open(self) -> pyarrow.parquet.ParquetWriter:
        if self._writer is None:
            path = self._folder / f"part-{self._part:05d}.parquet"
            self._writer = pyarrow.parquet.ParquetWriter(path, SCHEMA, compression="zstd")
        return self._writer

    def _flush(self) -> None:
        if self._rows:
            self._open().write_table(pyarrow.Table.from_pylist(self._rows, schema=SCHEMA))
            self._in_part += len(self._rows)
            self._rows.clear()
            self._characters = 0

    def _close(self) -> None:
        if self._writer is None:
            return
        self._writer.close()
        self._writer, self._part, self._in_part = None, self._part + 1, 0


def parts(folder: Path) -> list[Path]:
    """The Parquet parts of a check, in order.

    Raises:
      MissingDataError: the folder has no part.
    """
    found = sorted(folder.glob("part-*.parquet"))
    if not found:
        raise MissingDataError(folder, expected="parts of fsa check", found="none", fix="run fsa check first")
    return found


def require_whole(root: Path) -> None:
    """Compares the files of a check with their checksums (:func:`output_checksums.require_whole`).

    Raises:
      DataError: a file is missing or damaged.
    """
    output_checksums.require_whole(root, metadata=COUNTS, fix=AGAIN)


def read_part(path: Path) -> Iterator[dict[str, Any]]:
    """Rows of one part, under the names of SCHEMA.

    Raises:
      DataError: the file is not a part of a check, or is damaged.
    """
    try:
        with pyarrow.parquet.ParquetFile(path) as file:
            found = {field.name: field.type for field in file.schema_arrow}
            wrong = [field.name for field in SCHEMA if found.get(field.name) != field.type]
            if wrong:
                raise DataError(
                    path,
                    expected="a part of fsa check",
                    found=f"no {', '.join(wrong)} of the right type",
                    fix=AGAIN,
                )
            for batch in file.iter_batches(batch_size=1024, columns=SCHEMA.names):
                yield from batch.to_pylist()
    # A damaged file without a checksum can raise any of these.
    except (pyarrow.ArrowException, OSError, ValueError, OverflowError, MemoryError) as error:
        raise DataError(
            path, expected="a Parquet file that can be read", found=str(error)[:_DETAIL_CHARACTERS], fix=AGAIN
        ) from error
