"""Whole shuffles: every epoch goes through all rows in a uniformly random order of its own.

tf.data shuffles within a buffer; SeqIO's holds 1,000 examples, and is filled across the ends of epochs. Here the row
numbers are shuffled and the rows are fetched by number, so that neither the size of the rows nor the length of a file
limits the shuffle. An order is a function of the task's name, the seed, the epoch and the number of rows: the state of
such a pipeline is two numbers, which tf.data saves and finds again.
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Sequence
from typing import Any, Protocol

import seqio
import tensorflow as tf

from fsa_jax.common.hashing import hash64

MEMORY = 2 * 2**30
"""Bytes of files that can only be read from their beginning (TFRecord) and are held in memory to be shuffled whole. Not
a setting: the order of the examples depends on it, and a resumed run must have the same one."""

_READ = 2**14
_WINDOW_LEAST = 1_000


class Rows(Protocol):
    """Examples that can be fetched by their number, 0 to ``len() - 1``."""

    def __len__(self) -> int: ...

    def at(self, numbers: tf.data.Dataset) -> tf.data.Dataset:
        """The examples with these numbers (int64 scalars), in their order."""
        ...


class InMemory:
    """Rows of a dataset of dicts, as columns in memory.

    Args:
      dataset: read to its end.
      order_by: the feature whose values are the rows' order; None keeps the dataset's.
    """

    def __init__(self, dataset: tf.data.Dataset, order_by: str | None = None) -> None:
        self._none = dataset.take(0)
        parts: dict[str, list[Any]] = {name: [] for name in dataset.element_spec}  # pyright: ignore
        for batch in dataset.ragged_batch(_READ):
            for name, column in batch.items():
                parts[name].append(column)
        self._columns: dict[str, Any] = {}
        if any(parts.values()):
            # Column by column: at no time does more than one of them lie in memory twice.
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
    """Some rows of others.

    Args:
      rows: the others.
      numbers: the chosen ones' numbers there.
    """

    def __init__(self, rows: Rows, numbers: Sequence[int]) -> None:
        self._rows = rows
        self._count = len(numbers)
        self._numbers = tf.constant(numbers, tf.int64)

    def __len__(self) -> int:
        return self._count

    def at(self, numbers: tf.data.Dataset) -> tf.data.Dataset:
        """The chosen rows with these numbers among them, in their order."""
        return self._rows.at(numbers.map(lambda number: self._numbers[number]))


def permutations(count: int, name: str, seed: int, epochs: int | None = 1) -> tf.data.Dataset:
    """Row numbers of ``epochs`` epochs one after the other, each a uniformly random permutation of ``range(count)``.

    Args:
      count: rows.
      name: of the task: two tasks of a mixture, about the same reviews, have orders that know nothing of each other.
      seed: of the orders.
      epochs: None never ends.
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
    """Examples of a source for ``epochs`` epochs, each example once in every epoch, shuffled whole where that can be.

    Several processes share out one order: together they see each example once in every epoch.

    Args:
      source: a SeqIO data source. With a method ``rows(split)`` that returns Rows, it is shuffled whole; where there is
        none, or it returns None, within as many examples as MEMORY holds.
      split: of the source.
      name: of the task.
      seed: of the order.
      shard_info: which part of the examples; None all.
      epochs: None never ends.
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
    """Whether files of ``size`` bytes are held in memory."""
    return size <= MEMORY


def _window(source: Any, split: str) -> int:
    """Examples whose files are MEMORY bytes."""
    count = source.num_input_examples(split)
    size = source.size(split) if hasattr(source, "size") else None
    return max(_WINDOW_LEAST, int(count * MEMORY / size)) if count and size else _WINDOW_LEAST


@functools.cache  # once a run, however often the dataset is made
def _say_window(name: str, split: str, window: int) -> None:
    logging.getLogger(__name__).warning(
        "%s, split %s: too large to be shuffled whole (%.3g GiB of files); each epoch is shuffled by files, and within "
        "%d examples at a time",
        name,
        split,
        MEMORY / 2**30,
        window,
    )
