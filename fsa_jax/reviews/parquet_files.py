"""Reads rows of Parquet files in batches. Damaged row groups are counted, and the others are read."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
from pydantic import ValidationError

from fsa_base.errors import DataError
from fsa_jax.common.paths import require_file
from fsa_jax.common.records import Review
from fsa_jax.reviews import raw_row
from fsa_jax.reviews.raw_row import BadRow, RawRow

BATCH_BYTES = 64 << 20
"""Limit on the size of the rows that are decoded at a time."""
MAX_BATCH_ROWS = 1024
_MIN_BATCH_ROWS = 32
_MIN_BATCH_BYTES = 16 << 10
"""Lower limit on the average size of a batch; the overhead of a batch equals the time to read this many bytes."""

_FIX = "write or download it again"


def parquet_rows(path: Path) -> Iterator[RawRow | BadRow]:
    """Rows in order, without columns of dates and times: they are not needed, and Python cannot represent all of them.

    Raises:
      DataError: the file is not Parquet, its footer is damaged, or two of its columns have the same name.
    """
    import pyarrow
    import pyarrow.parquet

    # For damaged files Arrow raises many types; MemoryError if a size field is damaged.
    broken = (pyarrow.ArrowException, OSError, ValueError, KeyError, TypeError, OverflowError, MemoryError)
    try:
        file = pyarrow.parquet.ParquetFile(path, buffer_size=1 << 20, page_checksum_verification=True)
        columns = [
            (index, field.name)
            for index, field in enumerate(file.schema_arrow)
            if not pyarrow.types.is_temporal(field.type)
        ]
        groups = [file.metadata.row_group(index) for index in range(file.metadata.num_row_groups)]
        rows = [group.num_rows for group in groups]
        batch_rows = list(map(_batch_rows, groups))
    except broken as error:
        raise DataError(path, expected="a Parquet file", found=str(error), fix=_FIX) from error
    names = [name for _, name in columns]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise DataError(
            path, expected="columns with different names", found=f"twice: {', '.join(twice)}", fix="rename one"
        )
    if file.metadata.num_rows != sum(rows) or min(rows, default=0) < 0:
        raise DataError(path, expected="a Parquet file", found="numbers of rows that disagree", fix=_FIX)
    with file:
        for group, (expected, size) in enumerate(zip(rows, batch_rows, strict=True)):
            done = 0
            try:
                for batch in file.iter_batches(batch_size=size, row_groups=[group]):
                    for index in range(batch.num_rows):
                        yield RawRow(lambda batch=batch, index=index: _row(batch, index, columns, broken))
                    done += batch.num_rows
            except broken:
                pass
            if done < expected:
                yield BadRow("Parquet row group is damaged", rows=expected - done)


def _batch_rows(group: Any) -> int:
    """Number of rows to decode at a time.

    A value is at most as large as its column in the file. But with dictionary encoding every row may have that value.
    """
    sizes = [group.column(index).total_uncompressed_size for index in range(group.num_columns)]
    largest, average = max(sizes, default=1), max(1, sum(sizes) // max(1, group.num_rows))
    least = min(_MIN_BATCH_ROWS, -(-_MIN_BATCH_BYTES // average))
    return max(1, least, min(MAX_BATCH_ROWS, BATCH_BYTES // max(1, largest)))


def _row(
    batch: Any, index: int, columns: list[tuple[int, str]], broken: tuple[type[Exception], ...]
) -> Mapping[str, Any] | BadRow:
    import pyarrow

    row = {}
    try:
        for i, name in columns:
            column = batch.column(i)
            # The size of a dictionary-encoded value must be measured on the value, not on its dictionary.
            is_dictionary = pyarrow.types.is_dictionary(column.type)
            limit = raw_row.MAX_ROW_BYTES
            if not is_dictionary and column.nbytes > limit and column.slice(index, 1).nbytes > limit:
                return BadRow("row longer than 4 MB")
            row[name] = value = column[index].as_py()
            if is_dictionary and isinstance(value, str | bytes) and len(value) > limit:
                return BadRow("row longer than 4 MB")
    except UnicodeDecodeError:
        return BadRow("Parquet text that is not UTF-8")
    except (*broken, RecursionError):
        return BadRow("Parquet value that Python cannot hold")
    return row


SCHEMA = pyarrow.schema(
    [
        pyarrow.field("id", pyarrow.string(), nullable=False),
        pyarrow.field("text", pyarrow.string(), nullable=False),
        pyarrow.field("stars", pyarrow.float64()),
        pyarrow.field("domain", pyarrow.string()),
    ]
)
"""Columns of :class:`fsa_jax.common.records.Review`."""

ROW_GROUP = 8192
GROUP_CHARACTERS = 1 << 24
"""A row group ends when its reviews have this many characters, or after ROW_GROUP reviews."""


def write_reviews(path: Path, reviews: Iterable[Review]) -> int:
    """Writes reviews and returns their number. Pages have checksums, so that readers notice damage."""
    count = 0
    with pyarrow.parquet.ParquetWriter(path, SCHEMA, compression="zstd", write_page_checksum=True) as writer:
        for group in _groups(reviews):
            columns = {name: [getattr(review, name) for review in group] for name in SCHEMA.names}
            writer.write_table(pyarrow.table(columns, schema=SCHEMA))
            count += len(group)
    return count


def is_review_file(path: Path) -> bool:
    """Whether a file has exactly the columns that :func:`write_reviews` writes."""
    try:
        return pyarrow.parquet.read_schema(path).names == SCHEMA.names
    except (pyarrow.ArrowException, OSError, ValueError):
        return False


def read_reviews(path: Path) -> Iterator[Review]:
    """Reviews of a Parquet file in order.

    Raises:
      MissingDataError: there is no such file.
      DataError: the file is not a Parquet file of reviews or is damaged, or a row is not a valid review.
    """
    fix = "write it with fsa sample"
    require_file(path, fix)
    for row, raw in enumerate(parquet_rows(path), start=1):
        values = raw if isinstance(raw, BadRow) else raw.parse()
        if isinstance(values, BadRow):
            raise DataError(f"{path}:{row}", expected="a review", found=values.reason, fix=fix)
        if missing := {"id", "text"} - values.keys():
            raise DataError(
                path,
                expected="columns id, text, stars and domain",
                found=f"no {' and no '.join(sorted(missing))} among {', '.join(values)}",
                fix=f"{fix}, which also reads Parquet with other columns",
            )
        try:
            yield Review(**{name: values[name] for name in SCHEMA.names if name in values})
        except ValidationError as error:
            raise DataError(f"{path}:{row}", expected="a review", found=str(error), fix=fix) from error


def _groups(reviews: Iterable[Review]) -> Iterator[list[Review]]:
    group: list[Review] = []
    characters = 0
    for review in reviews:
        group.append(review)
        characters += len(review.text)
        if len(group) == ROW_GROUP or characters >= GROUP_CHARACTERS:
            yield group
            group, characters = [], 0
    if group:
        yield group
