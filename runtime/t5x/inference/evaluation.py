"""Applying a model's predict or score function to a dataset on all devices, and SeqIO's metrics of the results."""

from __future__ import annotations

import functools
import itertools
import math
import os
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax
import numpy as np
from etils import epath
from jax.sharding import PartitionSpec

from fsa_base.errors import DataError, SettingError, require_choice
from t5x.data import datasets
from t5x.data.datasets import DatasetConfig
from t5x.models.base import BaseModel, Batch
from t5x.partitioning import PjitPartitioner
from t5x.train_state import TrainState

_INDEX = "__example_index__"
_PADDING = -1


def seqio_evaluator(*args: Any, **kwargs: Any) -> Any:
    """Creates a ``seqio.Evaluator``. A function, so that SeqIO is imported only when an evaluation runs."""
    datasets.tensorflow()
    import seqio

    return seqio.Evaluator(*args, **kwargs)


def scored_tasks(config: DatasetConfig) -> list[str]:
    """Returns the names of the tasks of ``config`` that have its split, and metrics. Reads no examples.

    Raises:
      SettingError: The task or module does not exist, or no task has the split.
    """
    provider = datasets.find_provider(config)
    import seqio

    tasks = seqio.get_subtasks(provider)
    splits = {split for task in tasks for split in task.splits}
    require_choice("infer_eval/utils.DatasetConfig.split", config.split, sorted(splits))
    return [task.name for task in tasks if config.split in task.splits and (task.metric_fns or task.metric_objs)]


def open_evaluator(config: DatasetConfig, model: BaseModel, output_dir: str, evaluator_cls: Callable[..., Any]) -> Any:
    """Returns the SeqIO evaluator of ``config``, with all examples in memory. It writes results below ``output_dir``.

    Raises:
      DataError: A task has no example.
      SettingError: No task has the split and a metric.
    """
    provider = datasets.find_provider(config)
    log_dir = os.path.join(output_dir, "inference_eval")
    epath.Path(log_dir).mkdir(parents=True, exist_ok=True)
    evaluator = evaluator_cls(
        mixture_or_task_name=config.mixture_or_task_name,
        feature_converter=model.FEATURE_CONVERTER_CLS(pack=False),
        eval_split=config.split,
        use_cached=config.use_cached,
        seed=config.seed,
        sequence_length=config.task_feature_lengths,
        log_dir=log_dir,
    )
    if not evaluator.eval_tasks:
        raise SettingError(
            f"evaluation of {provider.name}",
            expected=f"a task with a split {config.split!r} and metric_fns or metric_objs",
            found="none",
            fix="bind another split or task, or infer_eval_dataset_cfg = None",
        )
    for task in evaluator.eval_tasks:
        if int(evaluator.cached_task_datasets[task.name].cardinality().numpy()) == 0:
            raise DataError(
                f"task {task.name}, split {config.split!r}",
                expected="at least one example to evaluate",
                found="none",
                fix="check the task's data directory, or evaluate another split",
            )
    return evaluator


def input_shapes(evaluator: Any, batch_size: int) -> dict[str, jax.ShapeDtypeStruct]:
    """Returns shape and dtype of the model's features in a batch of ``evaluator``'s examples."""
    task = evaluator.eval_tasks[0].name
    return batch_shapes(evaluator.cached_model_datasets[task].element_spec[1], batch_size)


def batch_shapes(spec: Mapping[str, Any], batch_size: int) -> dict[str, jax.ShapeDtypeStruct]:
    """Returns shape and dtype of a batch of elements of ``spec``."""
    return {
        name: jax.ShapeDtypeStruct((batch_size, *value.shape), value.dtype.as_numpy_dtype)
        for name, value in spec.items()
    }


class InferenceEvaluator:
    """Evaluates one task or mixture, any number of times. The random key for decoding is always ``PRNGKey(0)``.

    Args:
      open_evaluator: Returns the SeqIO evaluator. Called at the first evaluation, since reading examples takes time.
      batch_size: Batch size of decoding and scoring.
      model: Decodes and scores.
      partitioner: Distributes arrays over the devices.
      state_axes: PartitionSpecs of the state.
    """

    def __init__(
        self,
        open_evaluator: Callable[[], Any],
        batch_size: int,
        model: BaseModel,
        partitioner: PjitPartitioner,
        state_axes: TrainState,
    ) -> None:
        self._open = functools.cache(open_evaluator)
        self._batch_size = batch_size
        self._model = model
        self._partitioner = partitioner
        self._state_axes = state_axes
        self._functions: dict[str, InferenceFunction] = {}
        self._pending: Any = None

    def start(self, state: TrainState, step: int) -> None:
        """Decodes and scores with ``state``. The metrics may still be computed in another thread after this returns.

        Raises:
          DataError, SettingError: See :func:`open_evaluator`.
        """
        self.finish()
        self._pending, _ = self._open().evaluate(
            compute_metrics=jax.process_index() == 0, step=step, model_fns=self._model_functions(state)
        )

    def finish(self) -> Mapping[str, Mapping[str, Any]]:
        """Waits for the metrics of the last :meth:`start` and returns them by task; empty if already returned."""
        pending, self._pending = self._pending, None
        return {} if pending is None else pending.result() or {}

    def _model_functions(self, state: TrainState) -> dict[Any, Callable[[Any], Any]]:
        import seqio

        kinds = seqio.metrics.ModelOutputType
        return {
            kinds.PREDICTION: lambda dataset: self._predictions(dataset, state),
            kinds.PREDICTION_WITH_AUX: lambda dataset: self._with_auxiliary("predict_batch_with_aux", dataset, state),
            kinds.SCORE: lambda dataset: self._scores(dataset, state),
            kinds.SCORE_WITH_INTERMEDIATES: lambda dataset: self._with_auxiliary(
                "score_batch_with_intermediates", dataset, state
            ),
        }

    def _run(self, name: str, dataset: Any, state: TrainState) -> list[tuple[int, Any]]:
        if name not in self._functions:
            self._functions[name] = make_function(
                self._model, name, self._batch_size, self._state_axes, self._partitioner
            )
        return self._functions[name](dataset, state, jax.random.PRNGKey(0))

    def _predictions(self, dataset: Any, state: TrainState) -> list[tuple[int, list]]:
        return [(index, ids.tolist()) for index, ids in self._run("predict_batch", dataset, state)]

    def _scores(self, dataset: Any, state: TrainState) -> list[tuple[int, float]]:
        return [(index, float(score)) for index, score in self._run("score_batch", dataset, state)]

    def _with_auxiliary(self, name: str, dataset: Any, state: TrainState) -> tuple[list, dict[str, Any]]:
        rows = self._run(name, dataset, state)
        first = [(index, np.asarray(value).tolist()) for index, (value, _) in rows]
        auxiliary = jax.tree.map(lambda *leaves: [np.asarray(leaf) for leaf in leaves], *[aux for _, (_, aux) in rows])
        return first, auxiliary


def make_function(
    model: BaseModel, name: str, batch_size: int, state_axes: TrainState, partitioner: PjitPartitioner
) -> InferenceFunction:
    """Compiles ``predict_batch``, ``predict_batch_with_aux``, ``score_batch`` or ``score_batch_with_intermediates``."""
    if name == "score_batch_with_intermediates":

        def function(params: Any, batch: Batch) -> Any:
            return model.score_batch(params, batch, return_intermediates=True)

    else:
        function = getattr(model, name)
    return InferenceFunction(function, batch_size, state_axes, partitioner, takes_rng=name.startswith("predict"))


class InferenceFunction:
    """A model function such as ``predict_batch``, compiled for the mesh.

    Args:
      function: ``fn(params, batch)`` or ``fn(params, batch, rng)``. It returns an array (batch, …), or a pair of an
        array and a tree of arrays (batch, …).
      batch_size: Rows of a batch over all processes.
      state_axes: PartitionSpecs of the state.
      partitioner: Distributes arrays over the devices.
      takes_rng: Whether ``function`` takes a random key.
    """

    def __init__(
        self,
        function: Callable[..., Any],
        batch_size: int,
        state_axes: TrainState,
        partitioner: PjitPartitioner,
        takes_rng: bool,
    ) -> None:
        self._layout = partitioner.get_data_layout(batch_size)
        self._rows = batch_size // self._layout.num_shards
        self._partitioner = partitioner

        def run(state: TrainState, batch: Mapping[str, Any], rng: jax.Array) -> Any:
            batch = dict(batch)
            index = batch.pop(_INDEX)
            arguments = (rng,) if takes_rng else ()
            return index, function(state.params, batch, *arguments)

        # The results are replicated: every process has those of the whole batch, so no gathering is needed.
        data = PartitionSpec("data")
        self._run = partitioner.partition(run, (state_axes, data, None), None)

    def __call__(self, dataset: Any, state: TrainState, rng: jax.Array) -> list[tuple[int, Any]]:
        """Returns (index, result) for every element of ``dataset``, sorted by index.

        Args:
          dataset: A finite, unbatched ``tf.data.Dataset`` of (index, features).
          state: The state whose parameters are used.
          rng: Random key; it is split once per batch.
        """
        results: list[tuple[int, Any]] = []
        waiting: Any = None
        for batch in self._batches(dataset):
            rng, batch_rng = jax.random.split(rng)
            outputs = self._run(state, self._partitioner.global_batch(batch), batch_rng)
            # Results are fetched one batch late, so that the device never waits for the host.
            if waiting is not None:
                results.extend(_rows(waiting))
            waiting = outputs
        if waiting is not None:
            results.extend(_rows(waiting))
        return sorted(results, key=lambda pair: pair[0])

    def _batches(self, dataset: Any) -> Iterator[dict[str, np.ndarray]]:
        """Yields the part of every batch that this process loads; missing rows at the end are zeros."""
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
    """Splits the results of a batch into rows, and drops the padding rows."""
    index, values = jax.device_get(outputs)
    return [
        (int(number), jax.tree.map(lambda leaf, row=row: leaf[row], values))
        for row, number in enumerate(index)
        if number != _PADDING
    ]
