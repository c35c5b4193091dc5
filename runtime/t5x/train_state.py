"""The state that a step updates (parameters, optimizer state, mutable collections), and how it is initialised."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import flax
import flax.struct
import jax
import jax.numpy as jnp
from absl import logging
from flax import serialization
from flax.core import FrozenDict, freeze, unfreeze
from flax.linen import partitioning as flax_partitioning
from jax.sharding import PartitionSpec

from fsa_base.errors import CheckpointError
from t5x.checkpointing import restoring
from t5x.checkpointing.config import RestoreCheckpointConfig
from t5x.optimizers import Optimizer, OptimizerDef, select_entries
from t5x.partitioning import PjitPartitioner
from t5x.progress import announce

_EMPTY: FrozenDict = FrozenDict()


def _split_variables(model_variables: Mapping[str, Any]) -> tuple[Any, FrozenDict | None, dict, FrozenDict]:
    """Splits what ``module.init`` returns into parameters, their axes, mutable collections and their axes."""
    collections = dict(unfreeze(dict(model_variables)))
    params = collections.pop("params")
    params_axes = collections.pop("params_axes", None)
    axes = {name.removesuffix("_axes"): collections.pop(name) for name in list(collections) if name.endswith("_axes")}
    return params, None if params_axes is None else freeze(params_axes), collections, freeze(axes)


def _logical_axes(axes_metadata: FrozenDict | None, values: Any) -> Any:
    """Returns PartitionSpecs of logical axis names in the tree of ``values``; empty ones if the model names no axes."""
    if not axes_metadata:
        return jax.tree.map(lambda _: PartitionSpec(), values)
    return unfreeze(flax_partitioning.get_axis_names(axes_metadata))


def _mutables_axes(metadata: FrozenDict, values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: _logical_axes(metadata.get(name), value) for name, value in values.items()}


@flax.struct.dataclass
class FlaxOptimTrainState:
    """The state of training: an optimizer, which has the parameters and the step, and other collections of the model.

    ``params_axes`` and ``flax_mutables_axes`` are the axis names from ``param_with_axes``; they are not saved.
    """

    optimizer: Optimizer
    flax_mutables: Any = flax.struct.field(default_factory=dict)
    params_axes: FrozenDict | None = flax.struct.field(pytree_node=False, default=None)
    flax_mutables_axes: FrozenDict = flax.struct.field(pytree_node=False, default=_EMPTY)

    @classmethod
    def create(cls, optimizer_def: OptimizerDef, model_variables: Mapping[str, Any]) -> FlaxOptimTrainState:
        """Returns the state at step 0.

        Args:
          optimizer_def: The optimizer. Its ``set_param_axes``, if any, gets the logical axes of the parameters.
          model_variables: The return value of ``module.init``.
        """
        params, params_axes, mutables, mutables_axes = _split_variables(model_variables)
        set_param_axes = getattr(optimizer_def, "set_param_axes", None)
        if params_axes is not None and set_param_axes is not None:
            set_param_axes(_logical_axes(params_axes, params))
        return cls(optimizer_def.create(params), mutables, params_axes, mutables_axes)

    @property
    def step(self) -> jax.Array:
        return self.optimizer.state.step

    @property
    def params(self) -> Any:
        return self.optimizer.target

    @property
    def param_states(self) -> Any:
        return self.optimizer.state.param_states

    def apply_gradient(self, grads: Any, learning_rate: Any, flax_mutables: Any = None) -> FlaxOptimTrainState:
        """Returns the state after one update; ``flax_mutables``, if given, replaces the mutable collections."""
        return self.replace(  # type: ignore[attr-defined]
            optimizer=self.optimizer.apply_gradient(grads, learning_rate=learning_rate),
            flax_mutables=self.flax_mutables if flax_mutables is None else flax_mutables,
        )

    def replace_params(self, params: Any) -> FlaxOptimTrainState:
        return self.replace(optimizer=self.optimizer.replace(target=params))  # type: ignore[attr-defined]

    def replace_step(self, step: Any) -> FlaxOptimTrainState:
        state = self.optimizer.state.replace(step=step)  # type: ignore[attr-defined]
        return self.replace(optimizer=self.optimizer.replace(state=state))  # type: ignore[attr-defined]

    def state_dict(self) -> dict[str, Any]:
        """Returns ``{"target", "state": {"step", "param_states"}}``, and ``flax_mutables`` if there are any."""
        state_dict = self.optimizer.state_dict()
        if self.flax_mutables:
            state_dict["flax_mutables"] = serialization.to_state_dict(self.flax_mutables)
        return state_dict

    def restore_state(self, state_dict: Mapping[str, Any]) -> FlaxOptimTrainState:
        """Returns this state with the values of ``state_dict``, in the layout of :meth:`state_dict`.

        The step may have any dtype, since upstream T5X sometimes writes it as a float.

        Raises:
          CheckpointError: An entry is missing or has another shape.
        """
        mutables = self.flax_mutables
        if mutables:
            expected = {"flax_mutables": serialization.to_state_dict(mutables)}
            mutables = serialization.from_state_dict(mutables, select_entries(expected, state_dict)["flax_mutables"])
        own = {name: value for name, value in state_dict.items() if not (mutables and name == "flax_mutables")}
        return self.replace(  # type: ignore[attr-defined]
            optimizer=self.optimizer.restore_state(own), flax_mutables=mutables
        )

    def as_logical_axes(self) -> FlaxOptimTrainState:
        """Returns this state with a PartitionSpec of logical axis names in place of every array."""
        params_axes = _logical_axes(self.params_axes, self.params)
        return self.replace(  # type: ignore[attr-defined]
            optimizer=self.optimizer.optimizer_def.derive_logical_axes(self.optimizer, params_axes),
            flax_mutables=_mutables_axes(self.flax_mutables_axes, self.flax_mutables),
        )


@flax.struct.dataclass
class InferenceState:
    """The state for evaluation and inference: parameters, mutable collections and the step (int32 scalar)."""

    step: jax.Array
    params: Any
    flax_mutables: Any = flax.struct.field(default_factory=dict)
    params_axes: FrozenDict | None = flax.struct.field(pytree_node=False, default=None)
    flax_mutables_axes: FrozenDict = flax.struct.field(pytree_node=False, default=_EMPTY)

    @classmethod
    def create(cls, model_variables: Mapping[str, Any]) -> InferenceState:
        """Returns the state at step 0 from what ``module.init`` returned."""
        params, params_axes, mutables, mutables_axes = _split_variables(model_variables)
        return cls(jnp.zeros((), jnp.int32), params, mutables, params_axes, mutables_axes)

    @property
    def param_states(self) -> dict[str, Any]:
        """Always empty, since there is no optimizer."""
        return {}

    def replace_params(self, params: Any) -> InferenceState:
        return self.replace(params=params)  # type: ignore[attr-defined]

    def replace_step(self, step: Any) -> InferenceState:
        return self.replace(step=step)  # type: ignore[attr-defined]

    def state_dict(self) -> dict[str, Any]:
        """Returns ``{"target", "state": {"step"}}``, and ``flax_mutables`` if there are any."""
        state_dict = {"target": serialization.to_state_dict(self.params), "state": {"step": self.step}}
        if self.flax_mutables:
            state_dict["flax_mutables"] = serialization.to_state_dict(self.flax_mutables)
        return state_dict

    def restore_state(self, state_dict: Mapping[str, Any]) -> InferenceState:
        """Returns this state with the values of ``state_dict``; optimizer state in it is ignored.

        Raises:
          CheckpointError: An entry is missing or has another shape.
        """
        # Checkpoints of training always contain optimizer state; ignoring it needs no warning.
        steps = {name: value for name, value in state_dict.get("state", {}).items() if name == "step"}
        stored = {**state_dict, "state": steps}
        values = select_entries(self.state_dict(), stored)
        mutables = values.get("flax_mutables")
        return self.replace(  # type: ignore[attr-defined]
            step=values["state"]["step"].astype(jnp.int32),
            params=serialization.from_state_dict(self.params, values["target"]),
            flax_mutables=serialization.from_state_dict(self.flax_mutables, mutables) if mutables else {},
        )

    def as_logical_axes(self) -> InferenceState:
        """Returns this state with a PartitionSpec of logical axis names in place of every array."""
        return self.replace(  # type: ignore[attr-defined]
            step=PartitionSpec(),
            params=_logical_axes(self.params_axes, self.params),
            flax_mutables=_mutables_axes(self.flax_mutables_axes, self.flax_mutables),
        )


def _said_left_out(path: str, names: Sequence[str]) -> str:
    """Returns one line about the entries that the settings of the restoring leave out."""
    if all(name.startswith("state/") for name in names):
        return f"restored the parameters from {path}; the optimizer starts anew, as the recipe asks"
    shown = ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
    return f"{len(names)} entries have INITIAL values, as assignment_map asks: {shown}"


TrainState = FlaxOptimTrainState | InferenceState
"""With arrays as leaves or, where documented, with ``jax.ShapeDtypeStruct`` or PartitionSpec."""

InitFn = Callable[[jax.Array, Mapping[str, Any], Mapping[str, Any] | None], Mapping[str, Any]]
"""``get_initial_variables`` of a model: maps a random key, and shapes and dtypes by feature, to initial variables."""


class TrainStateInitializer:
    """Creates train states of one model on one mesh.

    Args:
      optimizer_def: The optimizer. If None, states are :class:`InferenceState`.
      init_fn: ``fn(rng, input_shapes, input_types) -> variables``, the model's ``get_initial_variables``.
      input_shapes: Shape of every feature of a global batch.
      partitioner: Distributes the state over the devices.
      input_types: Dtypes by feature; float32 for features that are not listed.

    Attributes:
      shapes: The state with a ``jax.ShapeDtypeStruct`` in place of every array.
      train_state_axes: The state with a PartitionSpec in place of every array.
    """

    def __init__(
        self,
        optimizer_def: OptimizerDef | None,
        init_fn: InitFn,
        input_shapes: Mapping[str, Sequence[int]],
        partitioner: PjitPartitioner,
        input_types: Mapping[str, Any] | None = None,
    ) -> None:
        self._partitioner = partitioner

        def fresh(rng: jax.Array) -> TrainState:
            variables = init_fn(rng, input_shapes, input_types)
            if optimizer_def is None:
                return InferenceState.create(variables)
            return FlaxOptimTrainState.create(optimizer_def, variables)

        self._fresh = fresh
        self.shapes: TrainState = jax.eval_shape(fresh, jax.random.PRNGKey(0))
        self.train_state_axes: TrainState = partitioner.get_mesh_axes(self.shapes)

    def from_scratch(self, init_rng: jax.Array) -> TrainState:
        """Returns a state with random weights; every device computes its own part."""
        return self._partitioner.partition(self._fresh, None, self.train_state_axes)(init_rng)

    def from_path(
        self, path: str, config: RestoreCheckpointConfig, init_rng: jax.Array | None = None, is_resuming: bool = False
    ) -> TrainState:
        """Returns the state in the checkpoint at ``path``.

        Args:
          path: One checkpoint, in the format of Orbax or of older T5X versions.
          config: How to read it.
          init_rng: Random key for entries that are missing in the checkpoint; needed if ``config`` allows that.
          is_resuming: The run continues from its own checkpoint, so assignment maps do not apply.

        Raises:
          CheckpointError: The checkpoint cannot be read, or entries are missing or have other shapes.
        """
        logging.info("restoring %s", path)
        expected = self.shapes.state_dict()
        shardings = self._partitioner.shardings(self.train_state_axes.state_dict())
        plan = restoring.plan(path, expected, config, is_resuming)
        fresh = {}
        if initial := [*plan.from_scratch, *plan.left_out]:
            if init_rng is None:
                raise CheckpointError(
                    path,
                    expected="every entry of the model",
                    found=f"none for {', '.join(initial[:3])}",
                    fix="set fallback_init_rng, the random seed for entries that are missing in the checkpoint",
                )
            if plan.from_scratch:
                logging.warning(
                    "%d entries have INITIAL values, they are missing in %s: %s",
                    len(plan.from_scratch),
                    path,
                    ", ".join(plan.from_scratch),
                )
            if plan.left_out:
                announce(_said_left_out(path, plan.left_out))
            fresh = self.from_scratch(init_rng).state_dict()
        state_dict = restoring.read(plan, expected, shardings, fresh)
        state_dict["state"]["step"] = jnp.asarray(state_dict["state"]["step"], jnp.int32)
        return self.shapes.restore_state(state_dict)

    def from_checkpoints(
        self, restore_cfgs: Sequence[RestoreCheckpointConfig], ds_iter: Any = None, init_rng: jax.Array | None = None
    ) -> Iterator[tuple[TrainState, str]]:
        """Yields (state, path) of every checkpoint of the first configuration that selects any."""
        del ds_iter  # The position in the data is restored by t5x/hooks/checkpoints.py.
        for config in restore_cfgs:
            paths = restoring.resolve_paths(config)
            for path in paths:
                yield self.from_path(path, config, init_rng), path
            if paths:
                return

    def from_checkpoint(
        self, ckpt_cfgs: Sequence[RestoreCheckpointConfig], *, ds_iter: Any = None, init_rng: jax.Array | None = None
    ) -> TrainState | None:
        """Returns the state of the checkpoint that the configurations select; None if they select none."""
        found = list(self.from_checkpoints(ckpt_cfgs, ds_iter, init_rng))
        return found[-1][0] if found else None

    def from_checkpoint_or_scratch(
        self, ckpt_cfgs: Sequence[RestoreCheckpointConfig], *, init_rng: jax.Array, ds_iter: Any = None
    ) -> TrainState:
        """Returns the state of the checkpoint that the configurations select, or else a state with random weights."""
        state = self.from_checkpoint(ckpt_cfgs, ds_iter=ds_iter, init_rng=init_rng)
        return self.from_scratch(init_rng) if state is None else state
