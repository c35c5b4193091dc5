"""Reads a TFDS dataset of reviews for ``fsa sample``: ``tfds:NAME`` or ``tfds:NAME:SPLIT`` (``train`` by default).

NAME may also be the folder of a prepared dataset, which has the file ``dataset_info.json``.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from fsa_base.errors import DataError, MissingDataError
from fsa_jax.reviews.raw_row import BadRow, RawRow


def tfds_rows(location: str) -> Iterator[RawRow | BadRow]:
    """Rows of a prepared dataset in a fixed order; nested features stay nested (``--columns '{"text": "data.text"}'``).

    Raises:
      MissingDataError: the dataset is not prepared on this machine. This function downloads nothing, because users
        should start such downloads themselves.
      DataError: the dataset has no such split.
    """
    import tensorflow_datasets as tfds

    _, _, name_and_split = location.partition(":")
    name, _, split = name_and_split.partition(":")
    split = split or "train"
    try:
        prepared = (Path(name) / "dataset_info.json").is_file()
        builder = tfds.builder_from_directory(name) if prepared else tfds.builder(name)
    except (tfds.core.DatasetNotFoundError, ValueError) as error:
        raise MissingDataError(
            location, expected="a TFDS dataset", found=str(error).splitlines()[0], fix=f"tfds build {name}"
        ) from error
    splits = builder.info.splits
    if not splits:
        raise MissingDataError(
            location, expected="a prepared dataset", found=f"nothing in {builder.data_dir}", fix=f"tfds build {name}"
        )
    # "train[:10%]" names a part of a split.
    if split.partition("[")[0] not in splits:
        raise DataError(location, expected=f"one of {', '.join(splits)}", found=split, fix=f"tfds:{name}:SPLIT")
    import tensorflow

    rows = tfds.as_numpy(builder.as_dataset(split=split, shuffle_files=False))  # pyright: ignore[reportCallIssue]
    try:
        for example in rows:
            yield RawRow(lambda example=example: _plain(example))
    except tensorflow.errors.OpError:
        yield BadRow("dataset is broken from here on")


def _plain(value):
    """Converts NumPy values to Python numbers, bytes and mappings."""
    if isinstance(value, dict):
        return {name: _plain(part) for name, part in value.items()}
    return value.item() if hasattr(value, "item") and getattr(value, "ndim", 0) == 0 else value
