"""Parquet files of reviews, which ``fsa sample`` writes and ``fsa teach`` reads."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

import pyarrow
import pyarrow.parquet
from pydantic import ValidationError

from fsa_base.errors import DataError
from fsa_jax.common.paths import require_file
from fsa_jax.common.records import Review
from fsa_jax.reviews.parquet_rows import parquet_rows
from fsa_jax.reviews.raw_row import BadRow

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
