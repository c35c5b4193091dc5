"""Metrics of a step: small pytrees that are merged on the device, and converted to numbers on the host.

They are subclasses of ``clu.metrics.Metric``, so models can combine them with CLU's metrics. Rates have only their
numerator on the device; :func:`summarize` gets the seconds.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
from clu import metrics as clu_metrics

MetricMap = dict[str, clu_metrics.Metric]


@flax.struct.dataclass
class Sum(clu_metrics.Metric):
    """Sum of a value over steps."""

    total: Any

    @classmethod
    def empty(cls) -> Sum:
        return cls(total=jnp.zeros((), jnp.float32))

    @classmethod
    def from_model_output(cls, values: Any, **_: Any) -> Sum:  # type: ignore[override]
        return cls(total=jnp.sum(jnp.asarray(values)))

    def merge(self, other: Sum) -> Sum:  # type: ignore[override]
        return type(self)(total=self.total + other.total)

    def compute(self) -> Any:
        return self.total


@flax.struct.dataclass
class AveragePerStep(clu_metrics.Metric):
    """Sum of a value within a step, averaged over steps."""

    total: Any
    steps: Any = 1

    @classmethod
    def empty(cls) -> AveragePerStep:
        return cls(total=jnp.zeros((), jnp.float32), steps=0)

    @classmethod
    def from_model_output(cls, values: Any, steps: int = 1, **_: Any) -> AveragePerStep:  # type: ignore[override]
        return cls(total=jnp.sum(jnp.asarray(values)), steps=steps)

    def merge(self, other: AveragePerStep) -> AveragePerStep:  # type: ignore[override]
        return type(self)(total=self.total + other.total, steps=self.steps + other.steps)

    def compute(self) -> Any:
        return self.total / self.steps


@flax.struct.dataclass
class Time(clu_metrics.Metric):
    """Duration of the steps in seconds; empty on the device."""

    seconds: Any = None

    @classmethod
    def empty(cls) -> Time:
        return cls()

    def merge(self, other: Time) -> Time:  # type: ignore[override]
        return self

    def compute(self) -> Any:
        return self.seconds


@flax.struct.dataclass
class TimeRate(clu_metrics.Metric):
    """Sum of a value over steps, per second."""

    numerator: Any
    seconds: Any = None

    @classmethod
    def empty(cls) -> TimeRate:
        return cls(numerator=jnp.zeros((), jnp.float32))

    @classmethod
    def from_model_output(cls, numerator: Any, **_: Any) -> TimeRate:  # type: ignore[override]
        return cls(numerator=jnp.sum(jnp.asarray(numerator)))

    def merge(self, other: TimeRate) -> TimeRate:  # type: ignore[override]
        return type(self)(numerator=self.numerator + other.numerator)

    def compute(self) -> Any:
        return self.numerator / self.seconds


@flax.struct.dataclass
class StepsPerTime(clu_metrics.Metric):
    """Steps per second."""

    steps: Any = 1
    seconds: Any = None

    @classmethod
    def empty(cls) -> StepsPerTime:
        return cls(steps=0)

    def merge(self, other: StepsPerTime) -> StepsPerTime:  # type: ignore[override]
        return type(self)(steps=self.steps + other.steps)

    def compute(self) -> Any:
        return self.steps / self.seconds


def merge(first: Mapping[str, Any], second: Mapping[str, Any]) -> dict[str, Any]:
    """Merges two maps of metrics by name."""
    return {name: metric.merge(second[name]) for name, metric in first.items()}


def as_one_step(metrics: Mapping[str, Any]) -> dict[str, Any]:
    """Converts metrics that were merged over the slices of one batch to metrics of one step."""
    return {
        name: metric.replace(steps=1) if isinstance(metric, AveragePerStep | StepsPerTime) else metric
        for name, metric in metrics.items()
    }


def summarize(metrics: Mapping[str, Any], seconds: float | None = None) -> dict[str, float | np.ndarray]:
    """Fetches metrics from the device, which waits for their steps, and computes their values.

    Args:
      metrics: Metrics by name, merged over any number of steps.
      seconds: Duration of these steps. If None, metrics that need it are left out.

    Returns:
      Values by name: floats, or arrays.
    """
    values = {}
    for name, metric in jax.device_get(dict(metrics)).items():
        if isinstance(metric, Time | TimeRate | StepsPerTime):
            if seconds is None:
                continue
            metric = metric.replace(seconds=seconds)
        value = np.asarray(metric.compute())
        values[name] = value.item() if value.ndim == 0 else value
    return values


class Accumulator:
    """Merges the metrics of steps on the device, so that the host need not wait for the steps."""

    def __init__(self) -> None:
        self._merge = jax.jit(merge)
        self._merged: dict[str, Any] | None = None

    def add(self, step_metrics: Mapping[str, Any]) -> None:
        """Adds the metrics of one step, as :meth:`t5x.trainer.Trainer.train_step` returns them."""
        self._merged = dict(step_metrics) if self._merged is None else self._merge(self._merged, step_metrics)

    def drain(self) -> dict[str, Any]:
        """Returns the merged metrics, still on the device, for :func:`summarize`; then starts again with none."""
        merged, self._merged = self._merged, None
        return merged or {}
