"""Converts predictions from JSON lines to CSV, with one row per aspect, or to Parquet, with one row per review."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator
from functools import partial
from itertools import islice
from pathlib import Path

import pyarrow
import pyarrow.parquet

from fsa_jax.serving.prediction_record import Prediction, Task

TABLES = (".csv", ".parquet")
"""Suffixes of outputs that are tables."""
COLUMNS: dict[Task, tuple[str, ...]] = {
    "atsa": ("target", "polarity", "start", "end", "log_probability"),
    "acsa": ("category", "polarity", "log_probability"),
    "tasd": ("target", "category", "polarity", "start", "end", "log_probability"),
    "asqp": ("target", "category", "polarity", "opinion_words", "start", "end", "log_probability"),
    "analysis": ("target", "aspects", "sentiment", "reasoning"),
    "rewriting": ("generated",),
}
"""Columns of CSV between those of every task, ``id text`` and ``cut error``."""
_ROW_GROUP = 4096

_ASPECT = pyarrow.struct(
    {
        "target": pyarrow.string(),
        "category": pyarrow.string(),
        "polarity": pyarrow.string(),
        "opinion_words": pyarrow.list_(pyarrow.string()),
        "start": pyarrow.int64(),
        "end": pyarrow.int64(),
        "log_probability": pyarrow.float64(),
    }
)
_OPINION = pyarrow.struct(
    {
        "target": pyarrow.string(),
        "aspects": pyarrow.list_(pyarrow.string()),
        "sentiment": pyarrow.string(),
        "reasoning": pyarrow.string(),
    }
)
SCHEMA = pyarrow.schema(
    {
        "id": pyarrow.string(),
        "text": pyarrow.string(),
        "aspects": pyarrow.list_(_ASPECT),
        "opinions": pyarrow.list_(_OPINION),
        "generated": pyarrow.string(),
        "score": pyarrow.float64(),
        "cut": pyarrow.bool_(),
        "error": pyarrow.string(),
    }
)
"""Columns of Parquet."""


def is_table(path: Path) -> bool:
    """Whether a file has exactly the columns that this module writes."""
    if path.suffix.lower() == ".parquet":
        try:
            return pyarrow.parquet.read_schema(path).names == SCHEMA.names
        except (pyarrow.ArrowException, OSError, ValueError):
            return False
    with path.open("rb") as stream:
        return stream.readline(1 << 16) in {",".join(_header(task)).encode() + b"\r\n" for task in COLUMNS}


def write_csv(predictions: Path, out: Path, *, task: Task) -> None:
    """Writes one row per aspect or opinion; a review without any has one row in which they are empty."""
    header = _header(task)
    with out.open("w", encoding="utf-8", newline="") as stream:
        table = csv.DictWriter(stream, header, restval="", extrasaction="ignore")
        table.writeheader()
        for prediction in _read(predictions):
            review = prediction.model_dump(exclude={"aspects", "opinions"})
            review["cut"] = str(prediction.cut).lower()
            opinions = [
                {**opinion.model_dump(), "aspects": ", ".join(opinion.aspects)} for opinion in prediction.opinions
            ]
            aspects = [
                {**dict(aspect), "opinion_words": ", ".join(aspect.opinion_words or ())}
                for aspect in prediction.aspects
            ]
            table.writerows(review | part for part in [*aspects, *opinions] or [{}])


def write_parquet(predictions: Path, out: Path) -> None:
    """Writes one row per review, with lists of aspects and opinions. Pages have checksums."""
    rows = _read(predictions)
    with pyarrow.parquet.ParquetWriter(out, SCHEMA, compression="zstd", write_page_checksum=True) as writer:
        while group := [prediction.model_dump() for prediction in islice(rows, _ROW_GROUP)]:
            writer.write_table(pyarrow.Table.from_pylist(group, SCHEMA))


def _header(task: Task) -> list[str]:
    return ["id", "text", *COLUMNS[task], "cut", "error"]


def _read(predictions: Path) -> Iterator[Prediction]:
    with predictions.open("rb") as stream:
        for line in stream:
            yield Prediction.model_validate_json(line)


def converter(output: Path, task: Task) -> Callable[[Path, Path], None]:
    """The function that converts predictions of a task to the format of a file with a suffix of TABLES."""
    return write_parquet if output.suffix.lower() == ".parquet" else partial(write_csv, task=task)
