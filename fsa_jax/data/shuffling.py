"""Whole shuffles: every epoch reads all rows in a new, uniformly random order.

tf.data shuffles within a buffer; SeqIO's buffer has 1,000 examples and mixes neighbouring epochs. Here the row numbers
are shuffled and the rows are fetched by number, so neither the size of the rows nor the length of a file limits the
shuffle. The order depends only on the task's name, the seed, the epoch and the number of rows. So the state of the
pipeline is two numbers, which tf.data can save and restore.
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Sequence
from typing import Any, Protocol

import seqio
import tensorflow as tf

from fsa_jax.text.words import hash64

MEMORY = 2 * 2**30
"""Files that can only be read sequentially (TFRecord) are kept in memory for a whole shuffle, up to this many bytes. It
is not a setting, because the order of the examples depends on it, and a resumed run must have the same order."""

_READ = 2**14
_WINDOW_LEAST = 1_000


class Rows(Protocol):
    """Examples that can be fetched by number, 0 to ``len() - 1``."""

    def __len__(self) -> int: ...

    def at(self, numbers: tf.data.Dataset) -> tf.data.Dataset:
        """The examples with these numbers (int64 scalars), in their order."""
        ...


class InMemory:
    """Rows of a dataset of dicts, stored as columns in memory.

    Args:
      dataset: dataset, which is read to its end.
      order_by: feature by which the rows are sorted; None keeps the order of the dataset.
    """

    def __init__(self, dataset: tf.data.Dataset, order_by: str | None = None) -> None:
        self._none = dataset.take(0)
        parts: dict[str, list[Any]] = {name: [] for name in dataset.element_spec}  # pyright: ignore
        for batch in dataset.ragged_batch(_READ):
            for name, column in batch.items():
                parts[name].append(column)
        self._columns: dict[str, Any] = {}
        if any(parts.values()):
            # Concatenated column by column, so that at most one column is in memory twice.
            self._columns = {name: tf.concat(parts.pop(name), axis=0) for name in list(parts)}
        if self._columns and order_by is not None:
            order = tf.argsort(self._columns[order_by], stable=True)
            for name, column in self._columns.items():
                self._columns[name] = tf.gather(column, order)

    def __len__(self) -> int:
        return int(next(iter(self._columns.values())).shape[0]) if self._columns else 0

    def at(self, numbers: tf.data.Dataset) -> tf.data.Dataset:
        """The rows with these numbers, in their order."""
        if not self._columns:
            return self._none
        return numbers.map(
            lambda number: {name: column[number] for name, column in self._columns.items()},
            num_parallel_calls=tf.data.AUTOTUNE,
        )


class Chosen:
    """A subset of other rows.

    Args:
      rows: all rows.
      numbers: numbers of the chosen rows.
    """

    def __init__(self, rows: Rows, numbers: Sequence[int]) -> None:
        self._rows = rows
        self._count = len(numbers)
        self._numbers = tf.constant(numbers, tf.int64)

    def __len__(self) -> int:
        return self._count

    def at(self, numbers: tf.data.Dataset) -> tf.data.Dataset:
        """The chosen rows with these numbers (0 is the first chosen row), in their order."""
        return self._rows.at(numbers.map(lambda number: self._numbers[number]))


def permutations(count: int, name: str, seed: int, epochs: int | None = 1) -> tf.data.Dataset:
    """Row numbers of ``epochs`` epochs in sequence, each a uniformly random permutation of ``range(count)``.

    Args:
      count: number of rows.
      name: name of the task, so that two tasks of a mixture about the same reviews have independent orders.
      seed: random seed of the orders.
      epochs: number of epochs; None for no end.
    """
    if not count:
        return tf.data.Dataset.range(0)
    key = tf.constant(hash64(f"order of {name}", seed).to_bytes(8, "little"))
    base = tf.cast(tf.io.decode_raw(key, tf.int32), tf.int64)

    def epoch(number: tf.Tensor) -> tf.data.Dataset:
        of_epoch = tf.random.experimental.stateless_fold_in(base, number, alg="philox")
        order = tf.random.experimental.stateless_shuffle(tf.range(count, dtype=tf.int64), of_epoch, alg="philox")
        return tf.data.Dataset.from_tensor_slices(order)

    return tf.data.Dataset.range(tf.int64.max if epochs is None else epochs).flat_map(epoch)


def shuffled(
    source: Any, split: str, name: str, seed: int, shard_info: seqio.ShardInfo | None, epochs: int | None
) -> tf.data.Dataset:
    """Examples of a source for ``epochs`` epochs, each example once per epoch, with a whole shuffle if possible.

    Several processes divide one order among them: together they see each example once per epoch.

    Args:
      source: SeqIO data source. If it has a method ``rows(split)`` that returns Rows, it gets a whole shuffle. If not,
        or if the method returns None, examples are shuffled within a window of about MEMORY bytes.
      split: split of the source.
      name: name of the task.
      seed: random seed of the order.
      shard_info: part of the examples to return; None for all.
      epochs: number of epochs; None for no end.
    """
    rows = source.rows(split) if hasattr(source, "rows") else None
    if rows is not None:
        numbers = permutations(len(rows), name, seed, epochs)
        return rows.at(numbers.shard(shard_info.num_shards, shard_info.index) if shard_info else numbers)
    by_files = shard_info is not None and len(source.list_shards(split)) >= shard_info.num_shards
    dataset = source.get_dataset(split=split, shuffle=True, seed=seed, shard_info=shard_info if by_files else None)
    if shard_info and not by_files:
        dataset = dataset.shard(shard_info.num_shards, shard_info.index)
    window = _window(source, split)
    _say_window(name, split, window)
    return dataset.shuffle(window, seed=seed, reshuffle_each_iteration=True).repeat(epochs)


def fits(size: int) -> bool:
    """Whether files of ``size`` bytes are kept in memory."""
    return size <= MEMORY


def _window(source: Any, split: str) -> int:
    """Number of examples that take MEMORY bytes in their files."""
    count = source.num_input_examples(split)
    size = source.size(split) if hasattr(source, "size") else None
    return max(_WINDOW_LEAST, int(count * MEMORY / size)) if count and size else _WINDOW_LEAST


@functools.cache  # the warning appears once per run, even if the dataset is created often
def _say_window(name: str, split: str, window: int) -> None:
    logging.getLogger(__name__).warning(
        "%s, split %s: too large for a whole shuffle (limit: %.3g GiB of files); each epoch shuffles the files, and "
        "examples within a window of %d",
        name,
        split,
        MEMORY / 2**30,
        window,
    )
