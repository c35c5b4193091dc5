"""The trainer of a measurement: the engine's, on one device."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import jax

from t5x.models import BaseModel
from t5x.partitioning import PjitPartitioner
from t5x.train_state import FlaxOptimTrainState
from t5x.trainer import Trainer


def trainer_of(
    model: BaseModel, features: Iterable[str], learning_rate: Any, parameters: Mapping[str, Any] | None = None
) -> Trainer:
    """A trainer whose state is new.

    Args:
      model: model with an optimizer.
      features: names of the features of a batch.
      learning_rate: function of the step.
      parameters: nested tree; by default random ones.
    """
    optimizer: Any = model.optimizer_def

    # One program: compiling each operation by itself takes longer than compiling the step.
    @jax.jit
    def new_state(parameters: Mapping[str, Any] | None) -> FlaxOptimTrainState:
        # Only the structure of the variables depends on the shapes, so any length will do.
        variables = dict(model.get_initial_variables(jax.random.PRNGKey(0), dict.fromkeys(features, (1, 1))))
        if parameters is not None:
            variables["params"] = parameters
        return FlaxOptimTrainState.create(optimizer, variables)

    state = new_state(parameters)
    partitioner = PjitPartitioner(num_partitions=1)
    axes = partitioner.get_mesh_axes(state)
    return Trainer(
        model,
        # Where a step leaves it: a state from elsewhere would be compiled for once more.
        partitioner.move_params_to_devices(state, axes),
        partitioner,
        eval_names=[],
        summary_dir=None,
        train_state_axes=axes,
        rng=jax.random.PRNGKey(0),
        learning_rate_fn=learning_rate,
        num_microbatches=None,
    )
