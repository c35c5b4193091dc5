"""The train state at the start of a run: fresh, or from a checkpoint, laid out on the mesh."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from absl import logging

from fsa_base.errors import CheckpointError
from t5x import restoring
from t5x.checkpoint_config import RestoreCheckpointConfig
from t5x.partitioning import PjitPartitioner
from t5x.train_state import FlaxOptimTrainState, InferenceState


class TrainStateInitializer:
    """Makes train states of one model on one mesh.

    Args:
      optimizer_def: the optimizer; None makes an :class:`InferenceState`.
      init_fn: ``fn(rng, input_shapes, input_types) -> variables``, the model's ``get_initial_variables``.
      input_shapes: shapes of a global batch by feature.
      partitioner: the mesh.
      input_types: dtypes by feature, float32 for those that are not named.

    Attributes:
      shapes: the state with a ``jax.ShapeDtypeStruct`` in place of every array.
      train_state_axes: the state with a PartitionSpec in place of every array.
    """

    def __init__(
        self,
        optimizer_def: Any | None,
        init_fn: Any,
        input_shapes: Mapping[str, Sequence[int]],
        partitioner: PjitPartitioner,
        input_types: Mapping[str, Any] | None = None,
    ) -> None:
        self._partitioner = partitioner

        def fresh(rng: jax.Array) -> FlaxOptimTrainState | InferenceState:
            variables = init_fn(rng, input_shapes, input_types)
            if optimizer_def is None:
                return InferenceState.create(variables)
            return FlaxOptimTrainState.create(optimizer_def, variables)

        self._fresh = fresh
        self.shapes = jax.eval_shape(fresh, jax.random.PRNGKey(0))
        self.train_state_axes = partitioner.get_mesh_axes(self.shapes)

    def from_scratch(self, init_rng: jax.Array) -> Any:
        """Returns a fresh state, each device computing its share."""
        return self._partitioner.partition(self._fresh, None, self.train_state_axes)(init_rng)

    def from_path(
        self, path: str, config: RestoreCheckpointConfig, init_rng: jax.Array | None = None, is_resuming: bool = False
    ) -> Any:
        """Returns the state that the checkpoint at ``path`` holds.

        Args:
          path: one checkpoint, of Orbax or of older T5X.
          config: how to read it.
          init_rng: key of the entries that the checkpoint lacks, needed where ``config`` allows any.
          is_resuming: the run goes on with its own checkpoint: assignment maps do not apply.

        Raises:
          CheckpointError: the checkpoint is unreadable, or lacks entries, or has other shapes.
        """
        logging.info("restoring %s", path)
        expected = self.shapes.state_dict()
        shardings = self._partitioner.shardings(self.train_state_axes.state_dict())
        plan = restoring.plan(path, expected, config, is_resuming)
        fresh = {}
        if plan.from_scratch:
            if init_rng is None:
                raise CheckpointError(
                    path,
                    expected="every entry of the model",
                    found=f"none for {', '.join(plan.from_scratch[:3])}",
                    fix="give fallback_init_rng, the seed of the entries that the checkpoint lacks",
                )
            logging.warning(
                "%d entries start FRESH, %s lacks them: %s", len(plan.from_scratch), path, ", ".join(plan.from_scratch)
            )
            fresh = self.from_scratch(init_rng).state_dict()
        state_dict = restoring.read(plan, expected, shardings, fresh)
        state_dict["state"]["step"] = jnp.asarray(state_dict["state"]["step"], jnp.int32)
        return self.shapes.restore_state(state_dict)

    def from_checkpoints(
        self, restore_cfgs: Sequence[RestoreCheckpointConfig], ds_iter: Any = None, init_rng: jax.Array | None = None
    ) -> Iterator[tuple[Any, str]]:
        """Yields (state, path) of every checkpoint of the first configuration that names any."""
        del ds_iter  # The position in the data is restored by the train loop (t5x/data_position.py).
        for config in restore_cfgs:
            paths = restoring.resolve_paths(config)
            for path in paths:
                yield self.from_path(path, config, init_rng), path
            if paths:
                return

    def from_checkpoint(
        self, ckpt_cfgs: Sequence[RestoreCheckpointConfig], *, ds_iter: Any = None, init_rng: jax.Array | None = None
    ) -> Any | None:
        """Returns the state of the one checkpoint that is named, None if none is."""
        found = list(self.from_checkpoints(ckpt_cfgs, ds_iter, init_rng))
        return found[-1][0] if found else None

    def from_checkpoint_or_scratch(
        self, ckpt_cfgs: Sequence[RestoreCheckpointConfig], *, init_rng: jax.Array, ds_iter: Any = None
    ) -> Any:
        """Returns the state of the checkpoint that is named, a fresh one if none is."""
        state = self.from_checkpoint(ckpt_cfgs, ds_iter=ds_iter, init_rng=init_rng)
        return self.from_scratch(init_rng) if state is None else state
