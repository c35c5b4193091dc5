"""Running a model's predict or score function over a dataset, batch by batch, on every device."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax
import numpy as np
from jax.sharding import PartitionSpec

from t5x.partitioning import PjitPartitioner

_INDEX = "__example_index__"
_PADDING = -1


class InferenceFunction:
    """A model function such as ``predict_batch``, compiled for the mesh.

    Args:
      function: ``fn(params, batch)`` or ``fn(params, batch, rng)``; returns an array (batch, …) or a pair of one and a
        tree of arrays (batch, …).
      batch_size: rows of a batch over all processes.
      state_axes: PartitionSpecs of the state.
      partitioner: the mesh.
      takes_rng: whether ``function`` takes a key.
    """

    def __init__(
        self,
        function: Callable[..., Any],
        batch_size: int,
        state_axes: Any,
        partitioner: PjitPartitioner,
        takes_rng: bool,
    ) -> None:
        self._layout = partitioner.get_data_layout(batch_size)
        self._rows = batch_size // self._layout.num_shards
        self._partitioner = partitioner

        def run(state: Any, batch: Mapping[str, Any], rng: jax.Array) -> Any:
            batch = dict(batch)
            index = batch.pop(_INDEX)
            arguments = (rng,) if takes_rng else ()
            return index, function(state.params, batch, *arguments)

        # Replicated results: every process sees the whole batch's, so nothing need be gathered afterwards.
        data = PartitionSpec("data")
        self._run = partitioner.partition(run, (state_axes, data, None), None)

    def __call__(self, dataset: Any, state: Any, rng: jax.Array) -> list[tuple[int, Any]]:
        """Returns (index, result) for every element of ``dataset``, sorted by index.

        Args:
          dataset: ``tf.data.Dataset`` of (index, features), unbatched and finite.
          state: its parameters are used.
          rng: split once a batch.
        """
        results: list[tuple[int, Any]] = []
        waiting: Any = None
        for batch in self._batches(dataset):
            rng, batch_rng = jax.random.split(rng)
            outputs = self._run(state, self._partitioner.global_batch(batch), batch_rng)
            # Fetched one batch late, so that the device never waits for the host.
            if waiting is not None:
                results.extend(_rows(waiting))
            waiting = outputs
        if waiting is not None:
            results.extend(_rows(waiting))
        return sorted(results, key=lambda pair: pair[0])

    def _batches(self, dataset: Any) -> Iterator[dict[str, np.ndarray]]:
        """Yields this process's part of every batch; the last ones are filled up with zeros."""
        total = int(dataset.cardinality().numpy())
        if total < 0:
            total = sum(1 for _ in dataset)
        batches = math.ceil(total / (self._rows * self._layout.num_shards))
        own = dataset.shard(self._layout.num_shards, self._layout.shard_id).as_numpy_iterator()
        for _ in range(batches):
            taken = list(itertools.islice(own, self._rows))
            if taken:
                stacked = {name: np.stack([features[name] for _, features in taken]) for name in taken[0][1]}
            else:  # Another process still has rows in this batch.
                stacked = _no_rows(dataset.element_spec[1])
            index = np.asarray([number for number, _ in taken], np.int32)
            missing = self._rows - len(taken)
            batch = {
                name: np.pad(value, [(0, missing)] + [(0, 0)] * (value.ndim - 1)) for name, value in stacked.items()
            }
            batch[_INDEX] = np.pad(index, (0, missing), constant_values=_PADDING)
            yield batch


def _no_rows(spec: Mapping[str, Any]) -> dict[str, np.ndarray]:
    return {name: np.zeros((0, *value.shape), value.dtype.as_numpy_dtype) for name, value in spec.items()}


def _rows(outputs: Any) -> list[tuple[int, Any]]:
    """Splits the results of a batch into rows, without those that only filled it up."""
    index, values = jax.device_get(outputs)
    return [
        (int(number), jax.tree.map(lambda leaf, row=row: leaf[row], values))
        for row, number in enumerate(index)
        if number != _PADDING
    ]
