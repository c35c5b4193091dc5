"""One compiled training step: gradients of the loss, an optimizer update, and metrics that stay on the device."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import jax
import jax.numpy as jnp
import numpy as np
from clu import metrics as clu_metrics
from jax.sharding import PartitionSpec

from fsa_base.errors import DataError, SettingError
from t5x import metrics as metrics_lib
from t5x.errors import MEMORY_FIX
from t5x.metrics import AveragePerStep, MetricMap, StepsPerTime, Sum, Time, TimeRate
from t5x.models.base import BaseModel, Batch
from t5x.optimizers import LearningRateFn
from t5x.partitioning import PartitionedFunction, PjitPartitioner
from t5x.train_state import FlaxOptimTrainState, TrainState


class WeightMetrics(Protocol):
    """Computes metrics of a step from its gradients and the states before and after it."""

    def compute_metrics(
        self, gradients: Any, old_train_state: FlaxOptimTrainState, new_train_state: FlaxOptimTrainState
    ) -> MetricMap: ...


class WeightMetricsComputer:
    """Computes the root mean square of every parameter, of its gradient and of its update, averaged over steps."""

    def compute_metrics(
        self, gradients: Any, old_train_state: FlaxOptimTrainState, new_train_state: FlaxOptimTrainState
    ) -> MetricMap:
        updates = jax.tree.map(jnp.subtract, new_train_state.params, old_train_state.params)
        trees = {"weight_rms": old_train_state.params, "weight_gradient_rms": gradients, "weight_update_rms": updates}
        return {
            f"{name}/{jax.tree_util.keystr(path, simple=True, separator='/')}": AveragePerStep(
                jnp.sqrt(jnp.mean(jnp.square(leaf.astype(jnp.float32))))
            )
            for name, tree in trees.items()
            for path, leaf in jax.tree_util.tree_leaves_with_path(tree)
        }


@dataclass(frozen=True)
class StepMemory:
    """Memory that a step needs on each device, in bytes.

    Attributes:
      arguments: Train state and batch.
      temporary: Activations, gradients, other intermediate values, and metrics.
    """

    arguments: int
    temporary: int

    @classmethod
    def of(cls, compiled: jax.stages.Compiled) -> StepMemory | None:
        """Returns the memory that a compiled step needs; None if the backend does not report it."""
        found = compiled.memory_analysis()
        if found is None:
            return None
        # Outputs that are written into donated arguments need no additional memory.
        outputs = found.output_size_in_bytes - found.alias_size_in_bytes
        return cls(found.argument_size_in_bytes, found.temp_size_in_bytes + max(outputs, 0))

    def __str__(self) -> str:
        return f"{_gib(self.arguments + self.temporary)} a device ({_gib(self.arguments)} state and batch)"

    def require(self, available: int | None) -> None:
        """Checks that the step fits into the memory of a device.

        Args:
          available: Memory of a device in bytes. None if not known.

        Raises:
          SettingError: The step does not fit.
        """
        if available is not None and self.arguments + self.temporary > available:
            raise SettingError(
                "BATCH_SIZE",
                expected=f"a train step within the {_gib(available)} of a device",
                found=str(self),
                fix=MEMORY_FIX,
            )


def device_memory_limit() -> int | None:
    """Returns the bytes that JAX may use on a device of this process; None if the device does not report it (CPUs)."""
    statistics = jax.local_devices()[0].memory_stats()
    return (statistics or {}).get("bytes_limit")


def _gib(size: int) -> str:
    return f"{size / 2**30:.3g} GiB"


class Trainer:
    """Holds the train state and advances it.

    Args:
      model: Its ``loss_fn`` is minimised, and its ``eval_fn`` evaluated.
      train_state: Initial state. Its buffers are donated to the first step.
      partitioner: Distributes state and batches over the devices.
      eval_names: Names of the loss evaluations.
      summary_dir: Directory in which the caller writes metrics; None if it writes none.
      train_state_axes: PartitionSpecs of the state (``partitioner.get_mesh_axes``).
      rng: Random key for dropout. Step ``n`` uses ``fold_in(rng, n)``, so a resumed run draws the same numbers.
      learning_rate_fn: Maps the step to the learning rate that is passed to the optimizer.
      num_microbatches: Number of slices into which a batch is cut to save memory; None, 0 or 1 for no slicing. The
        gradients are those of the whole batch, with every loss normaliser.
      weight_metrics_computer: Adds metrics of parameters, gradients and updates.

    Attributes:
      train_state: The state after the last step.
      step_memory: Memory that the compiled step needs. None before :meth:`compile_train`, or if the backend does not
        report it.
    """

    def __init__(
        self,
        model: BaseModel,
        train_state: TrainState,
        partitioner: PjitPartitioner,
        eval_names: Sequence[str],
        summary_dir: str | None,
        train_state_axes: TrainState,
        rng: jax.Array,
        learning_rate_fn: LearningRateFn,
        num_microbatches: int | None,
        weight_metrics_computer: WeightMetrics | None = None,
    ) -> None:
        self.model = model
        self.train_state = train_state
        self.partitioner = partitioner
        self.eval_names = tuple(eval_names)
        self.summary_dir = summary_dir
        self.train_state_axes = train_state_axes
        self.rng = rng
        self.learning_rate_fn = learning_rate_fn
        self.num_microbatches = num_microbatches or 1
        self.step_memory: StepMemory | None = None
        self.weight_metrics_computer = weight_metrics_computer
        data = partitioner.data_partition_spec
        self._train: PartitionedFunction | jax.stages.Compiled = partitioner.partition(
            self.train_function, (train_state_axes, data, None), (train_state_axes, None), donate_argnums=(0,)
        )
        self._eval: PartitionedFunction = partitioner.partition(self._eval_function, (train_state_axes, data), None)

    def train_step(self, batch: Batch) -> MetricMap:
        """Advances ``train_state`` by one step.

        Args:
          batch: This process's part of the batch as host arrays, or global arrays.

        Returns:
          The metrics of the step. They are still being computed on the device; this call does not wait for them.
        """
        batch = self.partitioner.global_batch(batch)
        self.train_state, metrics = self._train(self.train_state, batch, self.rng)
        return metrics

    def compile_train(
        self, batch_shapes: Mapping[str, jax.ShapeDtypeStruct]
    ) -> tuple[jax.stages.Lowered, jax.stages.Compiled]:
        """Compiles the train step ahead of time for global batches of these shapes and dtypes.

        ``train_state`` may still consist of shapes. Whether the step fits into memory is checked by
        :meth:`require_memory`, not here.

        Returns:
          The step before and after compilation by XLA.
        """
        assert isinstance(self._train, PartitionedFunction)
        shapes = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(np.shape(leaf), leaf.dtype), self.train_state)
        lowered = self._train.lower(shapes, dict(batch_shapes), self.rng)
        self._train = compiled = lowered.compile()
        self.step_memory = StepMemory.of(compiled)
        return lowered, compiled

    def require_memory(self) -> None:
        """Checks that the compiled step fits into the memory of this process's devices, before the first step.

        Raises:
          SettingError: It does not fit.
        """
        if self.step_memory is not None:
            self.step_memory.require(device_memory_limit())

    def eval_step(self, batch: Batch) -> MetricMap:
        """Returns the metrics of one evaluation batch, on the device."""
        return self._eval(self.train_state, self.partitioner.global_batch(batch))

    def eval(self, batches: Mapping[str, Iterable[Batch]]) -> dict[str, MetricMap]:
        """Returns the metrics of each evaluation, merged over its batches and on the device.

        Raises:
          DataError: An evaluation has no batch.
        """
        merged = {}
        for name, evaluation in batches.items():
            accumulator = metrics_lib.Accumulator()
            for batch in evaluation:
                accumulator.add(self.eval_step(batch))
            merged[name] = accumulator.drain()
            if not merged[name]:
                raise DataError(
                    f"training evaluation {name}",
                    expected="at least one batch",
                    found="none",
                    fix="give the evaluation's split more examples than a batch holds, or lower its batch size",
                )
        return merged

    def train_function(
        self, state: FlaxOptimTrainState, batch: Batch, rng: jax.Array
    ) -> tuple[FlaxOptimTrainState, MetricMap]:
        """Returns the state after one step, and the metrics of the step; what :meth:`train_step` compiles."""
        dropout_rng = jax.random.fold_in(rng, state.step)
        gradients, metrics, flax_mutables = self._gradients(state, batch, dropout_rng)
        learning_rate = self.learning_rate_fn(state.step)
        new_state = state.apply_gradient(gradients, learning_rate=learning_rate, flax_mutables=flax_mutables)
        metrics = metrics | _run_metrics(batch, learning_rate)
        if self.weight_metrics_computer is not None:
            metrics |= self.weight_metrics_computer.compute_metrics(gradients, state, new_state)
        return new_state, metrics

    def _gradients(self, state: FlaxOptimTrainState, batch: Batch, rng: jax.Array) -> tuple[Any, MetricMap, Any]:
        if self.num_microbatches == 1:
            gradients, metrics, mutables = self._loss_gradients(state.params, batch, rng, state.flax_mutables)
            return gradients, metrics, mutables
        normalizer = getattr(self.model, "batch_loss_normalizer", lambda _: None)(batch)
        slices = {name: self._cut(name, value) for name, value in batch.items()}

        def add_slice(carry: Any, microbatch: Batch) -> tuple[Any, MetricMap]:
            summed, rng, mutables = carry
            rng, slice_rng = jax.random.split(rng)
            gradients, metrics, mutables = self._loss_gradients(
                state.params, microbatch, slice_rng, mutables, normalizer
            )
            return (jax.tree.map(lambda a, b: a + b.astype(a.dtype), summed, gradients), rng, mutables), metrics

        zeros = jax.tree.map(lambda param: jnp.zeros(param.shape, jnp.float32), state.params)
        (gradients, _, mutables), metrics = jax.lax.scan(add_slice, (zeros, rng, state.flax_mutables), slices)
        merged = {name: metric.reduce() for name, metric in metrics.items()}
        return gradients, metrics_lib.as_one_step(merged), mutables

    def _loss_gradients(
        self, params: Any, batch: Batch, rng: jax.Array, mutables: Any, normalizer: Any = None
    ) -> tuple[Any, MetricMap, Any]:
        options = {} if normalizer is None else {"loss_normalizer": normalizer}
        if options and "loss_normalizer" not in inspect.signature(self.model.loss_fn).parameters:
            raise SettingError(
                "Trainer.num_microbatches",
                expected=f"{type(self.model).__name__}.loss_fn to take loss_normalizer, the divisor of the whole batch",
                found="a loss that normalises each slice of the batch by itself",
                fix="--gin.trainer.Trainer.num_microbatches=None, or LOSS_NORMALIZING_FACTOR=None",
            )
        arguments = (batch, rng, mutables) if mutables else (batch, rng)
        gradient = jax.value_and_grad(self.model.loss_fn, has_aux=True)
        (_, aux), gradients = gradient(params, *arguments, **options)
        metrics, mutables = aux if mutables else (aux, mutables)
        return gradients, dict(metrics), mutables

    def _cut(self, name: str, value: jax.Array) -> jax.Array:
        """Reshapes (batch, …) to (slices, batch / slices, …); each slice is split over the mesh's data axis."""
        rows, data_size = value.shape[0], self.partitioner.mesh.shape["data"]
        if rows % (self.num_microbatches * data_size):
            raise SettingError(
                "Trainer.num_microbatches",
                expected=f"a number that cuts {rows} rows into slices that divide by {data_size}, the mesh's data axis",
                found=str(self.num_microbatches),
                fix="choose BATCH_SIZE a multiple of num_microbatches times the mesh's data axis",
            )
        cut = value.reshape(self.num_microbatches, rows // self.num_microbatches, *value.shape[1:])
        return jax.lax.with_sharding_constraint(cut, PartitionSpec(None, *self.partitioner.data_partition_spec))

    def _eval_function(self, state: TrainState, batch: Batch) -> MetricMap:
        arguments = (batch, state.flax_mutables) if state.flax_mutables else (batch,)
        _, aux = self.model.eval_fn(state.params, *arguments)
        metrics = aux[0] if state.flax_mutables else aux
        examples = next(iter(batch.values())).shape[0]
        return {**metrics, "timing/seqs": Sum(jnp.float32(examples))}


def _run_metrics(batch: Batch, learning_rate: jax.Array) -> MetricMap:
    examples = jnp.float32(next(iter(batch.values())).shape[0])
    return {
        "learning_rate": AveragePerStep(learning_rate),
        "learning_rate/current": clu_metrics.LastValue.from_model_output(learning_rate),
        "timing/seconds": Time(),
        "timing/seqs": Sum(examples),
        "timing/steps_per_second": StepsPerTime(),
        "timing/seqs_per_second": TimeRate(examples),
        "timing/seqs_per_second_per_core": TimeRate(examples / jax.device_count()),
    }
