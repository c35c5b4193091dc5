"""Rows of Parquet, a few at a time; row groups that are damaged are counted, and the others are read."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from fsa_base.errors import DataError
from fsa_jax.reviews import raw_row
from fsa_jax.reviews.raw_row import BadRow, RawRow

BATCH_BYTES = 64 << 20
"""Of the rows that are decoded at a time."""
MAX_BATCH_ROWS = 1024
_MIN_BATCH_ROWS = 32
_MIN_BATCH_BYTES = 16 << 10
"""On average; a batch costs as much time as reading so many bytes."""

_FIX = "write or fetch it again"


def parquet_rows(path: Path) -> Iterator[RawRow | BadRow]:
    """Rows in order, without columns of dates and times, which no review needs and Python cannot always hold.

    Raises:
      DataError: it is no Parquet file, its footer is damaged, or two of its columns have one name.
    """
    import pyarrow
    import pyarrow.parquet

    # Damage has many faces in Arrow; MemoryError is one where a size was hit.
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
            path, expected="columns of different names", found=f"twice: {', '.join(twice)}", fix="rename one"
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
    """Rows to decode at a time.

    A value is at most as large as its column is in the file, but where a dictionary holds it, every row may have it.
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
            # A dictionary's size is not that of the value.
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
