"""Adafactor (Shazeer & Stern 2018, arXiv 1804.04235) with second moments factored by logical axes.

Instead of one second moment per number, a large parameter has two vectors: averages over its rows and over its columns.
In a matrix, the two largest dimensions are factored. For parameters with more dimensions, rules define which logical
axes form the rows and the columns, and which (stacked layers) separate independent parameters.
"""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Mapping, Sequence
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import PartitionSpec

from fsa_base.errors import SettingError
from t5x.optimizers import HParamMap, Optimizer, OptimizerDef, OptimizerState, axes_by_path, names_of_path

Axes = tuple[int, ...]


class FactorDim(enum.Enum):
    """The role of a dimension: part of the rows or of the columns, a stack of parameters, or none of these."""

    ROW = "row"
    COLUMN = "column"
    BATCH = "batch"
    NONE = None


class HeuristicRule(enum.Enum):
    """Factor the two largest dimensions."""

    TOKEN = 1


HEURISTIC_RULE = HeuristicRule.TOKEN
FactorRule = HeuristicRule | Sequence[FactorDim] | None


def standard_logical_factor_rules() -> dict[str, FactorDim]:
    """Returns the role of each logical axis of the T5 networks."""
    columns = ("vocab", "mlp", "heads", "kv", "joined_kv", "q_wi_fused", "o_wo_fused", "multiquery_heads", "kv_fused")
    return {
        "embed": FactorDim.ROW,
        **dict.fromkeys((*columns, "mlp_activations"), FactorDim.COLUMN),
        "relpos_buckets": FactorDim.NONE,
        "layer_norm_scale": FactorDim.NONE,
        "layers": FactorDim.BATCH,
        "stack": FactorDim.BATCH,
    }


@flax.struct.dataclass
class AdafactorHyperParams:
    """See :class:`Adafactor`."""

    learning_rate: Any
    factored: bool
    multiply_by_parameter_scale: Any
    beta1: float | None
    decay_rate: float
    step_offset: int
    clipping_threshold: float | None
    weight_decay_rate: float | None
    min_dim_size_to_factor: int
    epsilon1: float
    epsilon2: float
    dtype_momentum: Any
    weight_decay_rate_lr_exponent: float | None
    global_norm_clip_threshold: float | None
    max_parameter_scale: float | None
    skip_nan_updates: bool


@flax.struct.dataclass
class AdafactorParamState:
    """Moments of one parameter. Unused ones are zeros of shape (1,).

    ``m``: momentum. ``v``: second moments with the shape of the parameter. ``v_row``, ``v_col``: averages of the second
    moments over columns and over rows.
    """

    m: Any
    v: Any
    v_row: Any
    v_col: Any


@dataclasses.dataclass(frozen=True)
class _Plan:
    """How one parameter is treated: ``rows`` and ``columns`` are factored, if there are any; ``averaged`` are the axes
    over which the root mean square of the parameter and of its update are computed."""

    averaged: Axes
    rows: Axes = ()
    columns: Axes = ()

    @property
    def factored(self) -> bool:
        return bool(self.rows)


class Adafactor(OptimizerDef):
    """Adafactor as used for T5: updates are relative to the size of the parameter, without first moments.

    Args:
      learning_rate: Learning rate; the trainer's schedule overrides it.
      factored: Whether to factor second moments.
      multiply_by_parameter_scale: Whether updates are relative to the root mean square of the parameter, or a map as
        in ``factor_map``.
      beta1: Decay rate of the first moments. If None, there are none.
      decay_rate: The decay rate of second moments is 1 - (t + 1)^-decay_rate.
      step_offset: Step at which t is 0, for fine-tuning.
      clipping_threshold: Upper bound of the root mean square of an update before scaling. If None, no bound.
      weight_decay_rate: Weight decay per step. If None, there is none.
      min_dim_size_to_factor: A matrix is factored only if both dimensions have at least this size.
      epsilon1: Added to squared gradients.
      epsilon2: Lower bound of the root mean square of a parameter.
      dtype_momentum: Dtype of the first moments.
      factor_map: Rules by regular expression of the parameter's path (``a/b/kernel``); the first match is used. A rule
        is :data:`HEURISTIC_RULE`, one :class:`FactorDim` per dimension, or None (not factored).
      logical_factor_rules: :class:`FactorDim` by logical axis, for parameters with more than two dimensions and for
        stacked ones. Others are factored by size.
      weight_decay_rate_lr_exponent: The weight decay is multiplied by learning_rate^this.
      global_norm_clip_threshold: Upper bound of the norm of all gradients together.
      max_parameter_scale: Upper bound of the root mean square of a parameter.
      skip_nan_updates: Keep value and moments of a parameter whose gradient contains NaN or infinity.
    """

    hyper_params: AdafactorHyperParams

    def __init__(
        self,
        learning_rate: float | None = None,
        factored: bool = True,
        multiply_by_parameter_scale: bool = True,
        beta1: float | None = None,
        decay_rate: float = 0.8,
        step_offset: int = 0,
        clipping_threshold: float | None = 1.0,
        weight_decay_rate: float | None = None,
        min_dim_size_to_factor: int = 128,
        epsilon1: float = 1e-30,
        epsilon2: float = 1e-3,
        dtype_momentum: Any = jnp.float32,
        factor_map: Any = None,
        logical_factor_rules: Mapping[str, FactorDim] | None = None,
        weight_decay_rate_lr_exponent: float | None = None,
        global_norm_clip_threshold: float | None = None,
        max_parameter_scale: float | None = None,
        skip_nan_updates: bool = False,
    ) -> None:
        hyper_params = AdafactorHyperParams(
            learning_rate,
            factored,
            HParamMap.of(multiply_by_parameter_scale)
            if not isinstance(multiply_by_parameter_scale, bool)
            else multiply_by_parameter_scale,
            beta1,
            decay_rate,
            step_offset,
            clipping_threshold,
            weight_decay_rate,
            min_dim_size_to_factor,
            epsilon1,
            epsilon2,
            dtype_momentum,
            weight_decay_rate_lr_exponent,
            global_norm_clip_threshold,
            max_parameter_scale,
            skip_nan_updates,
        )
        super().__init__(hyper_params)
        self._factor_map = None if factor_map is None else HParamMap.of(factor_map)
        self._logical_factor_rules = logical_factor_rules
        self._rules_by_path: dict[tuple[str, ...], tuple[FactorDim, ...]] = {}

    def set_param_axes(self, param_logical_axes: Any) -> None:
        """Sets the logical axes of every parameter, given as a tree of PartitionSpecs.

        Raises:
          SettingError: There is no rule for an axis.
        """
        rules = self._logical_factor_rules
        if rules is None:
            return
        for path, axes in axes_by_path(param_logical_axes).items():
            unknown = [axis for axis in axes if axis not in rules]
            if unknown:
                raise SettingError(
                    "Adafactor.logical_factor_rules",
                    expected=f"a rule for every logical axis of {'/'.join(path)}, {tuple(axes)}",
                    found=f"none for {unknown}",
                    fix="bind logical_factor_rules to a map that has them too, such as "
                    "{**standard_logical_factor_rules(), 'axis': FactorDim.ROW}",
                )
            self._rules_by_path[path] = tuple(rules[axis] for axis in axes)

    def init_state(self, params: Any) -> OptimizerState:
        hyper_params = self.hyper_params

        def start(path: tuple[Any, ...], param: jax.Array) -> AdafactorParamState:
            plan = self._plan(names_of_path(path), np.shape(param))
            # Separate arrays, since the train step donates all of them.
            momentum, full, row, column = ((1,),) * 4
            if hyper_params.beta1 is not None:
                momentum = param.shape
            if plan.factored:
                row, column = _without(param.shape, plan.columns), _without(param.shape, plan.rows)
            else:
                full = param.shape
            momentum_dtype = jnp.float32 if hyper_params.beta1 is None else hyper_params.dtype_momentum
            return AdafactorParamState(
                jnp.zeros(momentum, momentum_dtype),
                jnp.zeros(full, jnp.float32),
                jnp.zeros(row, jnp.float32),
                jnp.zeros(column, jnp.float32),
            )

        param_states = jax.tree_util.tree_map_with_path(start, params)
        return OptimizerState(step=jnp.zeros((), jnp.int32), param_states=param_states)

    def apply_gradient(
        self, hyper_params: AdafactorHyperParams, params: Any, state: OptimizerState, grads: Any
    ) -> tuple[Any, OptimizerState]:
        if hyper_params.learning_rate is None:
            raise SettingError(
                "Adafactor.learning_rate",
                expected="a learning rate",
                found="None, and none from the trainer",
                fix="bind trainer.Trainer.learning_rate_fn, or adafactor.Adafactor.learning_rate",
            )
        if hyper_params.global_norm_clip_threshold is not None:
            norm = jnp.sqrt(sum(jnp.sum(jnp.square(grad)) for grad in jax.tree.leaves(grads)))
            scale = jnp.minimum(1.0, hyper_params.global_norm_clip_threshold / norm)
            grads = jax.tree.map(lambda grad: grad * scale, grads)

        leaves, tree = jax.tree_util.tree_flatten_with_path(params)
        updated = []
        for (path, param), param_state, grad in zip(
            leaves, tree.flatten_up_to(state.param_states), tree.flatten_up_to(grads), strict=True
        ):
            names = names_of_path(path)
            plan = self._plan(names, param.shape)
            updated.append(_update(hyper_params, plan, "/".join(names), state.step, param, param_state, grad))
        new_params, new_states = (tree.unflatten(parts) for parts in zip(*updated, strict=True))
        return new_params, OptimizerState(state.step + 1, new_states)

    def derive_logical_axes(self, optimizer: Optimizer, param_logical_axes: Any) -> Optimizer:
        """See :class:`t5x.optimizers.OptimizerDef`; factors have the axes over which they are not averaged."""

        def axes_of(path: tuple[Any, ...], param: jax.Array, axes: PartitionSpec) -> AdafactorParamState:
            plan = self._plan(names_of_path(path), np.shape(param))
            unused = PartitionSpec()
            momentum = unused if self.hyper_params.beta1 is None else axes
            if not plan.factored or not axes:
                return AdafactorParamState(momentum, unused if plan.factored else axes, unused, unused)
            row, column = (PartitionSpec(*_without(tuple(axes), averaged)) for averaged in (plan.columns, plan.rows))
            return AdafactorParamState(momentum, unused, row, column)

        param_states = jax.tree_util.tree_map_with_path(axes_of, optimizer.target, param_logical_axes)
        state = OptimizerState(step=PartitionSpec(), param_states=param_states)  # type: ignore[arg-type]
        return optimizer.replace(state=state, target=param_logical_axes)  # type: ignore[attr-defined]

    def _plan(self, path: tuple[str, ...], shape: Sequence[int]) -> _Plan:
        """Returns how the parameter at ``path`` is treated.

        Raises:
          SettingError: A rule does not fit, or is missing for a parameter with more than two dimensions.
        """
        rank = len(shape)
        everything = _Plan(tuple(range(rank)))
        if not self.hyper_params.factored:
            return everything
        rule = self._rule(path, shape)
        if rule is None:
            return everything
        if isinstance(rule, HeuristicRule):
            by_size = [int(axis) for axis in np.argsort(shape, kind="stable")]
            if rank < 2 or shape[by_size[-2]] < self.hyper_params.min_dim_size_to_factor:
                return everything
            return _Plan(everything.averaged, rows=(by_size[-2],), columns=(by_size[-1],))
        if len(rule) != rank:
            raise SettingError(
                f"Adafactor, parameter {'/'.join(path)}",
                expected=f"a rule of {rank} dimensions for shape {tuple(shape)}",
                found=repr(tuple(rule)),
                fix="give factor_map one FactorDim a dimension, or HEURISTIC_RULE",
            )
        rows, columns = (
            tuple(axis for axis, dim in enumerate(rule) if dim is kind) for kind in (FactorDim.ROW, FactorDim.COLUMN)
        )
        averaged = tuple(axis for axis, dim in enumerate(rule) if dim is not FactorDim.BATCH)
        return _Plan(averaged, rows, columns) if rows and columns else _Plan(averaged)

    def _rule(self, path: tuple[str, ...], shape: Sequence[int]) -> FactorRule:
        if self._factor_map is not None:
            return self._factor_map["/".join(path)]
        rule = self._rules_by_path.get(path)
        if rule is not None and (len(shape) > 2 or FactorDim.BATCH in rule):
            return rule
        if len(shape) > 2:
            raise SettingError(
                f"Adafactor, parameter {'/'.join(path)}",
                expected=f"logical axes and rules for its {len(shape)} dimensions {tuple(shape)}",
                found="no logical axes, or no logical_factor_rules",
                fix="adafactor.Adafactor.logical_factor_rules = @adafactor.standard_logical_factor_rules(), "
                "and param_with_axes in the network",
            )
        # A matrix is factored only if it is large.
        return HEURISTIC_RULE


def _without(values: Sequence[Any], axes: Axes) -> tuple[Any, ...]:
    return tuple(value for axis, value in enumerate(values) if axis not in axes)


def _root_mean_square(values: jax.Array, axes: Axes) -> jax.Array:
    return jnp.sqrt(jnp.mean(jnp.square(values), axis=axes, keepdims=True))


def _update(
    hyper_params: AdafactorHyperParams,
    plan: _Plan,
    path: str,
    step: jax.Array,
    param: jax.Array,
    state: AdafactorParamState,
    grad: jax.Array,
) -> tuple[jax.Array, AdafactorParamState]:
    """Returns a parameter and its state after one step; names are those of algorithm 6 in the paper."""
    grad = grad.astype(jnp.float32)
    step_size = hyper_params.learning_rate
    scaled = hyper_params.multiply_by_parameter_scale
    if scaled[path] if isinstance(scaled, HParamMap) else scaled:
        scale = jnp.maximum(_root_mean_square(param, plan.averaged), hyper_params.epsilon2)
        if hyper_params.max_parameter_scale is not None:
            scale = jnp.minimum(scale, hyper_params.max_parameter_scale)
        step_size = step_size * scale
    age = jnp.asarray(step - hyper_params.step_offset + 1, jnp.float32)
    decay = 1.0 - age ** (-hyper_params.decay_rate)
    squared = jnp.square(grad) + hyper_params.epsilon1

    def decayed(average: jax.Array, new: jax.Array) -> jax.Array:
        return decay * average + (1.0 - decay) * new

    if plan.factored:
        v_row = decayed(state.v_row, jnp.mean(squared, axis=plan.columns))
        v_col = decayed(state.v_col, jnp.mean(squared, axis=plan.rows))
        over_columns = jnp.expand_dims(v_row, plan.columns)
        over_rows = jnp.expand_dims(v_col, plan.rows)
        relative = over_columns / jnp.mean(over_columns, axis=plan.rows, keepdims=True)
        update = grad * relative**-0.5 * over_rows**-0.5
        v = state.v
    else:
        v = decayed(state.v, squared)
        v_row, v_col = state.v_row, state.v_col
        update = grad * v**-0.5
    if hyper_params.clipping_threshold is not None:
        excess = _root_mean_square(update, plan.averaged) / hyper_params.clipping_threshold
        update = update / jnp.maximum(1.0, excess)
    update = step_size * update
    momentum = state.m
    if hyper_params.beta1 is not None:
        update = hyper_params.beta1 * momentum.astype(jnp.float32) + (1.0 - hyper_params.beta1) * update
        momentum = update.astype(momentum.dtype)
    new_param = param - update
    if hyper_params.weight_decay_rate is not None:
        weight_decay = hyper_params.weight_decay_rate
        if hyper_params.weight_decay_rate_lr_exponent:
            weight_decay = weight_decay * hyper_params.learning_rate**hyper_params.weight_decay_rate_lr_exponent
        new_param = new_param - weight_decay * param
    new_state = AdafactorParamState(momentum, v, v_row, v_col)
    if hyper_params.skip_nan_updates:
        usable = jnp.all(jnp.isfinite(grad))
        return jax.tree.map(lambda new, old: jnp.where(usable, new, old), (new_param, new_state), (param, state))
    return new_param, new_state
