"""The interface of optimizers, Optax optimizers with this interface, and learning-rate schedules.

An :class:`OptimizerDef` only describes an optimizer; :class:`Optimizer` combines it with parameters and state. In a
checkpoint the state is ``{"step": int32 (), "param_states": {...}}`` (docs/engine.md).
"""

from __future__ import annotations

import functools
import logging
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

import flax
import flax.struct
import jax
import jax.numpy as jnp
import optax
from flax import serialization
from flax.traverse_util import flatten_dict, unflatten_dict
from jax.sharding import PartitionSpec

from fsa_base.errors import CheckpointError, SettingError, require_choice

Params = Any
LearningRateFn = Callable[[jax.Array | int], jax.Array]
"""From the step, counted from 0, to the learning rate."""

logger = logging.getLogger(__name__)


@flax.struct.dataclass
class OptimizerState:
    """``step``: int32 scalar, number of updates so far. ``param_states``: a pytree that the optimizer defines."""

    step: jax.Array
    param_states: Any


class OptimizerDef:
    """Describes an optimizer. Subclasses define the initial state and how gradients are applied."""

    def __init__(self, hyper_params: Any) -> None:
        self.hyper_params = hyper_params

    def init_state(self, params: Params) -> OptimizerState:
        """Returns the state before the first update."""
        raise TypeError(f"{type(self).__name__} does not define init_state")

    def apply_gradient(
        self, hyper_params: Any, params: Params, state: OptimizerState, grads: Params
    ) -> tuple[Params, OptimizerState]:
        """Returns the parameters and the state after one update."""
        raise TypeError(f"{type(self).__name__} does not define apply_gradient")

    def update_hyper_params(self, **overrides: Any) -> Any:
        """Returns the hyperparameters with ``overrides``, such as the ``learning_rate`` of the trainer."""
        hyper_params = overrides.pop("hyper_params", self.hyper_params)
        return hyper_params.replace(**overrides) if overrides else hyper_params

    def create(self, target: Params) -> Optimizer:
        """Returns an optimizer of the parameters ``target``."""
        return Optimizer(optimizer_def=self, state=self.init_state(target), target=target)

    def state_dict(self, target: Params, state: OptimizerState) -> dict[str, Any]:
        """Returns ``{"target": params, "state": {"step", "param_states"}}``: nested dicts of arrays."""
        return {"target": serialization.to_state_dict(target), "state": serialization.to_state_dict(state)}

    def restore_state(
        self, opt_target: Params, opt_state: OptimizerState, state_dict: Mapping[str, Any]
    ) -> tuple[Params, OptimizerState]:
        """Returns parameters and state with the types of ``opt_target`` and ``opt_state`` and values of ``state_dict``.

        Raises:
          CheckpointError: An entry is missing or has another shape.
        """
        expected = self.state_dict(opt_target, opt_state)
        values = select_entries(expected, state_dict)
        step = values["state"]["step"]
        if step.dtype != jnp.int32:  # Upstream T5X may have cast it to a float; casting it back is exact.
            values["state"]["step"] = step.astype(jnp.int32)
        target = serialization.from_state_dict(opt_target, values["target"])
        return target, self._state_from_dict(opt_state, values["state"])

    def _state_from_dict(self, opt_state: OptimizerState, values: dict[str, Any]) -> OptimizerState:
        return cast(OptimizerState, serialization.from_state_dict(opt_state, values))

    def derive_logical_axes(self, optimizer: Optimizer, param_logical_axes: Params) -> Optimizer:
        """Returns ``optimizer`` with a PartitionSpec of logical axis names in place of every array.

        An array of the state whose path ends with the path of a parameter, and that has the same shape, gets the same
        axes; all others are replicated.
        """
        param_states = axes_of_param_states(optimizer.state.param_states, optimizer.target, param_logical_axes)
        state = OptimizerState(step=PartitionSpec(), param_states=param_states)  # type: ignore[arg-type]
        return optimizer.replace(state=state, target=param_logical_axes)  # type: ignore[attr-defined]


@flax.struct.dataclass
class Optimizer:
    """An :class:`OptimizerDef` with its parameters (``target``) and its state."""

    optimizer_def: OptimizerDef = flax.struct.field(pytree_node=False)
    state: OptimizerState
    target: Any

    def apply_gradient(self, grads: Params, **hyper_param_overrides: Any) -> Optimizer:
        """Returns the optimizer after one update with ``grads`` (float32, the tree of ``target``)."""
        hyper_params = self.optimizer_def.update_hyper_params(**hyper_param_overrides)
        target, state = self.optimizer_def.apply_gradient(hyper_params, self.target, self.state, grads)
        return self.replace(target=target, state=state)  # type: ignore[attr-defined]

    def state_dict(self) -> dict[str, Any]:
        """See :meth:`OptimizerDef.state_dict`."""
        return self.optimizer_def.state_dict(self.target, self.state)

    def restore_state(self, state_dict: Mapping[str, Any]) -> Optimizer:
        """See :meth:`OptimizerDef.restore_state`."""
        target, state = self.optimizer_def.restore_state(self.target, self.state, state_dict)
        return self.replace(target=target, state=state)  # type: ignore[attr-defined]


def select_entries(expected: Mapping[str, Any], stored: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the entries of ``stored`` that are in ``expected``. Other entries are dropped, and logged.

    Args:
      expected: Nested dict of arrays or shapes.
      stored: Nested dict of arrays, for example from a checkpoint.

    Raises:
      CheckpointError: An entry is missing or has another shape.
    """
    wanted: dict[str, Any] = flatten_dict(expected, sep="/")  # type: ignore[assignment]
    found: dict[str, Any] = flatten_dict(stored, sep="/")  # type: ignore[assignment]
    missing = sorted(wanted.keys() - found.keys())
    if missing:
        raise CheckpointError(
            "train state",
            expected=f"an entry {_first(missing)}",
            found=f"none of that name among {len(found)} entries ({_first(sorted(found.keys() - wanted.keys()))})",
            fix="restore a checkpoint of this model and optimizer, or map the names with an assignment_map",
        )
    for name, value in wanted.items():
        if jnp.shape(value) != jnp.shape(found[name]):
            raise CheckpointError(
                f"train state, {name}",
                expected=f"shape {jnp.shape(value)}",
                found=f"shape {jnp.shape(found[name])}",
                fix="restore a checkpoint of this model and optimizer, or give the model the checkpoint's sizes",
            )
    extra = sorted(found.keys() - wanted.keys())
    if extra:
        logger.warning("dropped %d entries of the checkpoint that the train state lacks: %s", len(extra), _first(extra))
    return unflatten_dict({name: found[name] for name in wanted}, sep="/")


def _first(names: Sequence[str], count: int = 3) -> str:
    shown = ", ".join(names[:count]) or "no others"
    return shown if len(names) <= count else f"{shown} and {len(names) - count} more"


def axes_of_param_states(param_states: Any, params: Params, param_axes: Params) -> Any:
    """Returns the tree of ``param_states`` with a PartitionSpec of logical axis names at every leaf.

    A leaf belongs to the parameter whose path is the end of the leaf's path. If the shapes are equal, it gets the axes
    of the parameter; otherwise it is replicated. This also works for optimizers that mask or group parameters.
    """
    shapes = {names_of_path(path): jnp.shape(leaf) for path, leaf in jax.tree_util.tree_leaves_with_path(params)}
    axes = axes_by_path(param_axes)

    def axes_of(path: tuple[Any, ...], leaf: Any) -> PartitionSpec:
        names = names_of_path(path)
        for start in range(len(names)):
            if shapes.get(names[start:]) == jnp.shape(leaf):
                return axes[names[start:]]
        return PartitionSpec()

    return jax.tree_util.tree_map_with_path(axes_of, param_states)


def axes_by_path(param_axes: Params) -> dict[tuple[str, ...], PartitionSpec]:
    """Returns the PartitionSpec of logical axis names of every parameter, by its path."""
    leaves = jax.tree_util.tree_leaves_with_path(param_axes, is_leaf=lambda leaf: isinstance(leaf, PartitionSpec))
    return {names_of_path(path): spec for path, spec in leaves}


def names_of_path(path: tuple[Any, ...]) -> tuple[str, ...]:
    """Returns the names along a path in a pytree."""
    return tuple(jax.tree_util.keystr((key,), simple=True) for key in path)


class HParamMap:
    """A hyperparameter that differs by parameter: the first regular expression that matches the path counts."""

    def __init__(self, rules: Sequence[tuple[str, Any]]) -> None:
        self._rules = [(re.compile(pattern), value) for pattern, value in rules]

    @classmethod
    def of(cls, rules: Any) -> HParamMap:
        """Returns ``rules`` as a map: itself, a mapping or (pattern, value) pairs."""
        if isinstance(rules, HParamMap):
            return rules
        return cls(list(rules.items()) if isinstance(rules, Mapping) else rules)

    def __getitem__(self, path: str) -> Any:
        for pattern, value in self._rules:
            if pattern.search(path):
                return value
        raise SettingError(
            "HParamMap",
            expected=f"a pattern that matches {path}",
            found=", ".join(pattern.pattern for pattern, _ in self._rules),
            fix="end the map with ('.*', …)",
        )


def _without_empty(tree: dict[str, Any]) -> dict[str, Any]:
    kept = {name: _without_empty(node) if isinstance(node, dict) else node for name, node in tree.items()}
    return {name: node for name, node in kept.items() if node is not None and not (isinstance(node, dict) and not node)}


class OptaxWrapper(OptimizerDef):
    """Any Optax transformation, also one whose updates depend on the parameters.

    The learning rate is that of the Optax optimizer; the trainer's learning rate is only reported as a metric.
    """

    def __init__(self, optax_optimizer: optax.GradientTransformation) -> None:
        super().__init__(hyper_params=None)
        self.optax_optimizer = optax_optimizer

    def init_state(self, params: Params) -> OptimizerState:
        return OptimizerState(step=jnp.zeros((), jnp.int32), param_states=self.optax_optimizer.init(params))

    def apply_gradient(
        self, hyper_params: Any, params: Params, state: OptimizerState, grads: Params
    ) -> tuple[Params, OptimizerState]:
        updates, param_states = self.optax_optimizer.update(grads, state.param_states, params)
        return optax.apply_updates(params, updates), OptimizerState(state.step + 1, param_states)

    def update_hyper_params(self, **overrides: Any) -> Any:
        return self.hyper_params

    def state_dict(self, target: Params, state: OptimizerState) -> dict[str, Any]:
        full = super().state_dict(target, state)
        full["state"]["param_states"] = _without_empty(full["state"]["param_states"])
        return full

    def _state_from_dict(self, opt_state: OptimizerState, values: dict[str, Any]) -> OptimizerState:
        # Empty states (optax.EmptyState, masked nodes) are not stored; they are taken from the current optimizer.
        template = flatten_dict(serialization.to_state_dict(opt_state), keep_empty_nodes=True)
        stored = flatten_dict(values)
        complete = {key: stored.get(key, node) for key, node in template.items()}
        return super()._state_from_dict(opt_state, unflatten_dict(complete))


def wrap_optax_optimizer(optax_optimizer: Callable[..., optax.GradientTransformation]) -> Callable[..., OptaxWrapper]:
    """Converts a constructor of Optax optimizers to one of :class:`OptaxWrapper`, which gin can bind."""

    @functools.wraps(optax_optimizer)
    def wrapped_optimizer(*args: Any, **kwargs: Any) -> OptaxWrapper:
        return OptaxWrapper(optax_optimizer(*args, **kwargs))

    return wrapped_optimizer


def _chain(transformations: Sequence[optax.GradientTransformation]) -> optax.GradientTransformation:
    """``optax.chain`` of a list, since gin cannot bind positional arguments."""
    return optax.chain(*transformations)


chain = wrap_optax_optimizer(_chain)
adabelief = wrap_optax_optimizer(optax.adabelief)
adadelta = wrap_optax_optimizer(optax.adadelta)
adafactor = wrap_optax_optimizer(optax.adafactor)
adagrad = wrap_optax_optimizer(optax.adagrad)
adam = wrap_optax_optimizer(optax.adam)
adamax = wrap_optax_optimizer(optax.adamax)
adamaxw = wrap_optax_optimizer(optax.adamaxw)
adamw = wrap_optax_optimizer(optax.adamw)
adan = wrap_optax_optimizer(optax.adan)
amsgrad = wrap_optax_optimizer(optax.amsgrad)
fromage = wrap_optax_optimizer(optax.fromage)
lamb = wrap_optax_optimizer(optax.lamb)
lars = wrap_optax_optimizer(optax.lars)
lion = wrap_optax_optimizer(optax.lion)
nadam = wrap_optax_optimizer(optax.nadam)
nadamw = wrap_optax_optimizer(optax.nadamw)
noisy_sgd = wrap_optax_optimizer(optax.noisy_sgd)
novograd = wrap_optax_optimizer(optax.novograd)
optimistic_adam = wrap_optax_optimizer(optax.optimistic_adam)
optimistic_gradient_descent = wrap_optax_optimizer(optax.optimistic_gradient_descent)
radam = wrap_optax_optimizer(optax.radam)
rmsprop = wrap_optax_optimizer(optax.rmsprop)
rprop = wrap_optax_optimizer(optax.rprop)
sgd = wrap_optax_optimizer(optax.sgd)
sign_sgd = wrap_optax_optimizer(optax.sign_sgd)
sm3 = wrap_optax_optimizer(optax.sm3)
yogi = wrap_optax_optimizer(optax.yogi)


def create_learning_rate_scheduler(
    factors: str = "constant * linear_warmup * rsqrt_decay",
    base_learning_rate: float = 0.5,
    warmup_steps: int = 1000,
    decay_factor: float = 0.5,
    steps_per_decay: int = 20000,
    steps_per_cycle: int = 100000,
    step_offset: int = 0,
    min_learning_rate: float = 1e-8,
) -> LearningRateFn:
    """Returns a function from the 0-based step to the float32 learning rate: a product of named factors, as in T5X.

    Args:
      factors: names joined by ``*``:
        ``constant`` (``base_learning_rate``), ``linear_warmup`` (0 to 1 over ``warmup_steps``), ``linear_decay``
        (warm-up to the base rate, then down by ``decay_factor`` of it a step; includes the base rate),
        ``rsqrt_decay`` (1/√max(step, warmup), no ramp), ``rsqrt_normalized_decay`` (the same times √warmup, so that
        it starts at 1), ``decay_every`` (times ``decay_factor`` every ``steps_per_decay``) and ``cosine_decay``
        (1 to 0 over each ``steps_per_cycle`` after the warm-up).
      base_learning_rate: Value of ``constant``.
      warmup_steps: Length of the warm-up, in steps.
      decay_factor: Factor of ``linear_decay`` and ``decay_every``.
      steps_per_decay: Period of ``decay_every``, in steps.
      steps_per_cycle: Period of ``cosine_decay``, in steps.
      step_offset: Subtracted from the step. Before this step, the schedule has its value at step 0.
      min_learning_rate: Lower bound of the learning rate.

    Raises:
      SettingError: A factor is unknown.
    """

    def linear_decay(step: jax.Array) -> jax.Array:
        falling = 1.0 + decay_factor * (warmup_steps - step)
        return base_learning_rate * jnp.minimum(step / warmup_steps, falling)

    def cosine_decay(step: jax.Array) -> jax.Array:
        progress = jnp.maximum(0.0, (step - warmup_steps) / float(steps_per_cycle))
        return jnp.maximum(0.0, 0.5 * (1.0 + jnp.cos(jnp.pi * (progress % 1.0))))

    known: dict[str, Callable[[jax.Array], jax.Array | float]] = {
        "constant": lambda step: base_learning_rate,
        "linear_warmup": lambda step: jnp.minimum(1.0, step / warmup_steps),
        "linear_decay": linear_decay,
        "rsqrt_decay": lambda step: 1.0 / jnp.sqrt(jnp.maximum(step, warmup_steps)),
        "rsqrt_normalized_decay": lambda step: jnp.sqrt(warmup_steps) / jnp.sqrt(jnp.maximum(step, warmup_steps)),
        "decay_every": lambda step: decay_factor ** (step // steps_per_decay),
        "cosine_decay": cosine_decay,
    }
    names = [name.strip() for name in factors.split("*")]
    for at, name in enumerate(names):
        others = [(i, other) for i, other in enumerate(names) if i == at or other in known]
        corrected = " * ".join("{choice}" if i == at else other for i, other in others)
        fix = f"--gin.{{setting}}=\"'{corrected}'\""
        require_choice("utils.create_learning_rate_scheduler.factors", name, known, fix)

    def learning_rate(step: jax.Array | int) -> jax.Array:
        since_offset = jnp.maximum(0, jnp.asarray(step) - step_offset)
        rate: jax.Array | float = 1.0
        for name in names:
            rate = rate * known[name](since_offset)
        return jnp.asarray(jnp.maximum(rate, min_learning_rate), jnp.float32)

    return learning_rate
