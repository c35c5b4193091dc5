"""Hooks that compute metrics: of training steps, of the loss on evaluation data, and of decoded text."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import numpy as np

from t5x import metrics as metrics_lib
from t5x.actions import ActionMode, MetricsByTask
from t5x.hooks.metric_log import MetricLog, has_row
from t5x.hooks.run_directory import Periodic
from t5x.inference.evaluation import InferenceEvaluator
from t5x.progress import Progress
from t5x.trainer import Trainer

Observe = Callable[[ActionMode, MetricsByTask], None]


class TrainMetrics:
    """Sums the metrics of steps on the device and writes them once per period, one step late.

    Writing the metrics of step ``n`` waits until the device has finished that step. This happens after step ``n + 1``
    was started, so the device never waits for the host, and the host is never more than one step ahead.
    """

    def __init__(
        self, log: MetricLog, progress: Progress, at: Periodic, tokens_per_step: float, observe: Observe
    ) -> None:
        self._log, self._progress, self._at, self._tokens = log, progress, at, tokens_per_step
        self._observe = observe
        self._accumulator = metrics_lib.Accumulator()
        self._since = time.monotonic()
        self._last = 0
        self._warned = False
        self._previous: tuple[int, Mapping[str, Any], Mapping[str, Any] | None] | None = None

    def after_step(self, step: int, metrics: Mapping[str, Any]) -> None:
        self._last = step
        self._accumulator.add(metrics)
        previous, self._previous = (
            self._previous,
            (step, metrics, self._accumulator.drain() if step in self._at else None),
        )
        self._write(previous)

    def flush(self) -> None:
        """Writes the metrics of the last step now: before something slow, or something that reads them from disk."""
        previous, self._previous = self._previous, None
        self._write(previous)

    def _write(self, waiting: tuple[int, Mapping[str, Any], Mapping[str, Any] | None] | None) -> None:
        if waiting is None:
            return
        step, latest, period = waiting
        if period is not None:
            jax.block_until_ready(period)
            now = time.monotonic()
            values = metrics_lib.summarize(period, seconds=max(now - self._since, 1e-9))
            self._log.write(step, values)
            self._warn_unless_finite(step, values)
            self._since = now
            self._observe(ActionMode.TRAIN, {"train": values})
        else:
            jax.block_until_ready(latest)
        if self._progress.due(step):
            shown = {name: latest[name] for name in ("loss", "loss_per_nonpadding_target_token") if name in latest}
            self._progress.show(step, metrics_lib.summarize(shown), self._tokens)

    def _warn_unless_finite(self, step: int, values: Mapping[str, Any]) -> None:
        if self._warned or np.isfinite(values.get("loss", 0.0)):
            return
        self._warned = True
        self._progress.say(
            f"step {step}: the loss is {values['loss']}, and parameters that have become NaN stay so: start again from "
            "an earlier checkpoint with a lower learning rate (actions.TerminateOnNanAction stops such a run)"
        )

    def close(self) -> None:
        self.flush()
        rest = self._accumulator.drain()
        if rest:  # The run stopped between two periods.
            self._write((self._last, rest, rest))
        self._log.close()


class TrainEvaluation:
    """Evaluates loss and accuracy on fixed batches of the evaluation split, given the targets (teacher forcing)."""

    def __init__(
        self,
        trainer: Trainer,
        datasets: Mapping[str, Any],
        model_dir: str,
        at: Periodic,
        progress: Progress,
        observe: Observe,
    ) -> None:
        self._trainer, self._datasets, self._model_dir, self._at = trainer, datasets, model_dir, at
        self._progress, self._observe = progress, observe
        self._logs = {name: MetricLog(os.path.join(model_dir, "training_eval", name)) for name in datasets}

    def after_step(self, step: int, metrics: Mapping[str, Any]) -> None:
        del metrics
        if step in self._at:
            self.run(step)

    def done(self, step: int) -> bool:
        """Returns whether the metrics of ``step`` are on disk."""
        return all(has_row(self._model_dir, "training_eval", name, step) for name in self._datasets)

    def run(self, step: int) -> None:
        """Evaluates and writes the metrics."""
        started = time.monotonic()
        batches = {name: dataset.as_numpy_iterator() for name, dataset in self._datasets.items()}
        merged = jax.block_until_ready(self._trainer.eval(batches))
        seconds = time.monotonic() - started
        values = {name: metrics_lib.summarize(metrics, seconds=seconds) for name, metrics in merged.items()}
        for name, numbers in values.items():
            self._logs[name].write(step, numbers)
            self._logs[name].write_once(step, {"timing/evaluate_seconds": seconds})
            shown = {key: numbers[key] for key in ("loss_per_nonpadding_target_token", "accuracy") if key in numbers}
            self._progress.say(f"step {step}: training_eval/{name}  {listed(shown)}")
        self._observe(ActionMode.TRAIN_EVAL, values)

    def close(self) -> None:
        for log in self._logs.values():
            log.close()


class InferenceEvaluation:
    """Evaluates the metrics of ``tasks`` on decoded text."""

    def __init__(
        self,
        evaluator: InferenceEvaluator,
        tasks: Sequence[str],
        trainer: Trainer,
        model_dir: str,
        at: Periodic,
        progress: Progress,
        observe: Observe,
        concurrent: bool,
    ) -> None:
        self._evaluator, self._tasks = evaluator, tasks
        self._trainer, self._model_dir, self._at = trainer, model_dir, at
        self._progress, self._observe, self._concurrent = progress, observe, concurrent
        self._step: int | None = None

    def after_step(self, step: int, metrics: Mapping[str, Any]) -> None:
        del metrics
        if step in self._at:
            self.run(step)

    def done(self, step: int) -> bool:
        """Returns whether the metrics of ``step`` are on disk."""
        return all(has_row(self._model_dir, "inference_eval", task, step) for task in self._tasks)

    def pending(self) -> set[int]:
        """Returns the step whose metrics are still being computed, if there is one."""
        return set() if self._step is None else {self._step}

    def run(self, step: int) -> None:
        """Decodes. The metrics may be computed in another thread; they are collected at the next evaluation."""
        self.finish()
        self._evaluator.start(self._trainer.train_state, step)
        self._step = step
        if not self._concurrent:
            self.finish()

    def finish(self) -> None:
        """Waits for the metrics of the last evaluation and prints them."""
        if self._step is None:
            return
        step, results = self._step, self._evaluator.finish()
        self._step = None  # Only now: a save in another thread must not take the checkpoint for one without a score.
        for task, values in results.items():
            self._progress.say(f"step {step}: inference_eval/{task}  {listed(values)}")
        # Only process 0 has results. All processes call this, since all must take part in the decision to stop.
        self._observe(ActionMode.INFER_EVAL, results)

    def close(self) -> None:
        self.finish()


def listed(values: Mapping[str, Any], most: int = 6) -> str:
    """Returns the first ``most`` numbers of ``values`` as text."""
    numbers = {name: value for name, value in values.items() if np.ndim(value) == 0 and np.isreal(value)}
    return "  ".join(f"{name} {float(value):.4g}" for name, value in list(numbers.items())[:most]) or "no numbers"
