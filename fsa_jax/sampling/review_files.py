"""Parquet files of reviews: what ``fsa sample`` writes and the teacher reads."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path

import pyarrow
import pyarrow.parquet
from pydantic import ValidationError

from fsa_jax.errors import DataError
from fsa_jax.paths import require_file
from fsa_jax.records import Review

SCHEMA = pyarrow.schema(
    [
        pyarrow.field("id", pyarrow.string(), nullable=False),
        pyarrow.field("text", pyarrow.string(), nullable=False),
        pyarrow.field("stars", pyarrow.float64()),
        pyarrow.field("domain", pyarrow.string()),
    ]
)
"""Columns of :class:`fsa_jax.records.Review`."""

ROW_GROUP = 8192


def write_reviews(path: Path, reviews: Iterable[Review], metadata: dict[str, str] | None = None) -> int:
    """Writes reviews as they come, under another name until the file is whole and synced; returns how many."""
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f".{path.name}.{os.getpid()}")
    count = 0
    try:
        with pyarrow.parquet.ParquetWriter(aside, SCHEMA.with_metadata(metadata), compression="zstd") as writer:
            for group in _groups(reviews):
                columns = {name: [getattr(review, name) for review in group] for name in SCHEMA.names}
                writer.write_table(pyarrow.table(columns, schema=SCHEMA.with_metadata(metadata)))
                count += len(group)
        with aside.open("rb+") as file:
            os.fsync(file.fileno())
        aside.replace(path)
    finally:
        aside.unlink(missing_ok=True)
    return count


def read_reviews(path: Path) -> Iterator[Review]:
    """Reviews of a Parquet file in order.

    Raises:
      MissingDataError: there is no such file.
      DataError: it is no Parquet file of reviews, or a row holds no valid review.
    """
    require_file(path, "write it with fsa sample")
    try:
        file = pyarrow.parquet.ParquetFile(path)
    except pyarrow.ArrowInvalid as error:
        raise DataError(path, expected="a Parquet file", found=str(error), fix="write it with fsa sample") from error
    with file:
        missing = {"id", "text"} - set(file.schema_arrow.names)
        if missing:
            raise DataError(
                path,
                expected="columns id, text, stars and domain",
                found=", ".join(file.schema_arrow.names),
                fix="write it with fsa sample, which also reads Parquet with other columns",
            )
        columns = [name for name in SCHEMA.names if name in file.schema_arrow.names]
        row = 0
        for batch in file.iter_batches(batch_size=ROW_GROUP, columns=columns):
            for values in batch.to_pylist():
                row += 1
                try:
                    yield Review(**values)
                except ValidationError as error:
                    raise DataError(
                        f"{path}:{row}", expected="a review", found=str(error), fix="write it with fsa sample"
                    ) from error


def _groups(reviews: Iterable[Review]) -> Iterator[list[Review]]:
    group: list[Review] = []
    for review in reviews:
        group.append(review)
        if len(group) == ROW_GROUP:
            yield group
            group = []
    if group:
        yield group
