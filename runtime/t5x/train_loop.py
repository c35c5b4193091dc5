"""The train loop: a generator of steps, and the hooks that look at each of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from t5x.hooks import Hook


def steps(
    trainer: Any, data: Iterator[Mapping[str, Any]], first: int, last: int
) -> Iterator[tuple[int, Mapping[str, Any]]]:
    """Trains from step ``first`` to ``last``, yielding the number of steps done and the step's metrics.

    Metrics are still on the device: asking for their values waits for the step.
    """
    for step in range(first, last):
        metrics = trainer.train_step(next(data))
        yield step + 1, metrics


def run(
    trainer: Any,
    data: Iterator[Mapping[str, Any]],
    first: int,
    last: int,
    hooks: Sequence[Hook],
    should_stop: Callable[[int], bool],
) -> int:
    """Runs the steps with their hooks until ``last``, or until ``should_stop(step)``; returns the last step done."""
    step = first
    if should_stop(step):
        return step
    for step, metrics in steps(trainer, data, first, last):
        for hook in hooks:
            hook.after_step(step, metrics)
        if should_stop(step):
            break
    return step
