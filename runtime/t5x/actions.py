"""What stops a training early: actions that look at metrics, of which a project may add its own; SIGTERM and Ctrl-C."""

from __future__ import annotations

import abc
import enum
import math
import os
import signal
import threading
from collections.abc import Callable, Mapping, Sequence
from types import FrameType
from typing import Any, Literal

import jax
from absl import logging

from fsa_base.errors import require_choice
from t5x.distributed import processes

MetricsByTask = Mapping[str, Mapping[str, Any]]


class ActionMode(enum.Enum):
    """The metrics that an action looks at."""

    TRAIN = 1
    TRAIN_EVAL = 2
    INFER_EVAL = 3


class BaseAction(abc.ABC):
    """Base class of actions: objects that look at metrics as soon as they are computed."""

    @abc.abstractmethod
    def run(self, train_state: Any, metrics_by_task: MetricsByTask) -> bool:
        """Returns whether to stop training.

        Args:
          train_state: The current state.
          metrics_by_task: Task to metric name to value; the task is ``train`` for training metrics.
        """


class EarlyStoppingAction(BaseAction):
    """Stops when a metric has not improved for ``patience`` evaluations in a row.

    Args:
      metric: (task, metric name).
      mode: Whether a smaller (``min``) or larger (``max``) value is better.
      patience: Number of evaluations without improvement after which to stop.
      atol: Improvements up to this size do not count.
      rtol: The same, relative to the best value.
    """

    def __init__(
        self,
        metric: tuple[str, str],
        mode: Literal["min", "max"],
        patience: int = 3,
        atol: float = 0.0,
        rtol: float = 0.0,
    ) -> None:
        require_choice("actions.EarlyStoppingAction.mode", mode, ("min", "max"))
        self._task, self._metric = metric
        self._sign = 1 if mode == "max" else -1
        self._patience, self._atol, self._rtol = patience, atol, rtol
        self._best = -math.inf
        self._without = 0

    def run(self, train_state: Any, metrics_by_task: MetricsByTask) -> bool:
        del train_state
        values = metrics_by_task.get(self._task, {})
        if self._metric not in values:
            return False
        value = self._sign * float(values[self._metric])
        margin = self._atol + (self._rtol * abs(self._best) if math.isfinite(self._best) else 0.0)
        if value > self._best + margin:
            self._best, self._without = value, 0
        else:
            self._without += 1
        return self._without >= self._patience


class TerminateOnNanAction(BaseAction):
    """Stops when a metric is NaN or infinite.

    Args:
      task: ``train``, or the name of a task.
      metric: Name of the metric.
    """

    def __init__(self, task: str, metric: str = "loss") -> None:
        self._task, self._metric = task, metric

    def run(self, train_state: Any, metrics_by_task: MetricsByTask) -> bool:
        del train_state
        value = metrics_by_task.get(self._task, {}).get(self._metric)
        return value is not None and not math.isfinite(float(value))


class Actions:
    """The actions of a run.

    Args:
      actions: Lists of actions under an :class:`ActionMode` or its name.
      train_state: Returns the current state.
    """

    def __init__(self, actions: Mapping[Any, Sequence[BaseAction]] | None, train_state: Callable[[], Any]) -> None:
        self._actions = {getattr(mode, "name", mode): list(listed) for mode, listed in (actions or {}).items()}
        for mode in self._actions:
            fix = "--gin.{setting}=\"{{'{choice}': [...]}}\""
            require_choice("train.actions", mode, ActionMode.__members__, fix)
        self._train_state = train_state
        self._stop = False
        self._undecided = False

    def observe(self, mode: ActionMode, metrics_by_task: MetricsByTask) -> None:
        """Runs the actions of ``mode``, if there are metrics: only process 0 has those of decoded text.

        Every process must call this at the same steps.
        """
        actions = self._actions.get(mode.name, ())
        self._undecided = self._undecided or bool(actions)
        for action in actions if metrics_by_task else ():
            if action.run(self._train_state(), metrics_by_task):
                logging.warning("%s stops the run", type(action).__name__)
                self._stop = True

    def should_stop(self) -> bool:
        """Returns whether an action on any process asked to stop. Every process must call this after every step.

        The processes communicate only after an action has run since the last call.
        """
        if self._undecided:
            self._undecided = False
            self._stop = processes.any_process(self._stop)
        return self._stop


class Preemption:
    """Handles SIGTERM while this context is active, and Ctrl-C after :meth:`catch_interrupts`.

    With several processes, JAX's preemption service makes all of them stop at the same step.

    Attributes:
      requested: Whether the run should stop.
      interrupted: Whether the reason is Ctrl-C.
    """

    def __init__(self) -> None:
        self.requested = False
        self.interrupted = False
        self._previous: dict[int, Any] = {}

    def __enter__(self) -> Preemption:
        if jax.process_count() == 1:
            self._handle(signal.SIGTERM, self._on_signal)
        return self

    def catch_interrupts(self) -> None:
        """From now on the first Ctrl-C requests a stop, and the second one ends the process immediately.

        Before this call, Ctrl-C raises an ordinary KeyboardInterrupt.
        """
        self._handle(signal.SIGINT, self._on_interrupt)

    def _handle(self, number: int, handler: Any) -> None:
        if threading.current_thread() is threading.main_thread():
            self._previous[number] = signal.signal(number, handler)

    def __exit__(self, *_: Any) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def _on_signal(self, signum: int, frame: FrameType | None) -> None:
        del signum, frame
        self.requested = True

    def _on_interrupt(self, signum: int, frame: FrameType | None) -> None:
        del signum, frame
        if self.interrupted:
            os.write(2, b"stopped immediately; the same command continues from the newest checkpoint\n")
            os._exit(128 + signal.SIGINT)
        self.interrupted = True
        if jax.process_count() > 1:
            os.kill(os.getpid(), signal.SIGTERM)  # JAX's preemption service informs the other processes.
        else:
            self.requested = True

    def should_stop(self, step: int) -> bool:
        """Returns whether to stop after ``step``, the same answer on every process."""
        if jax.process_count() > 1:
            from jax.experimental import multihost_utils

            self.requested = self.requested or multihost_utils.reached_preemption_sync_point(step)
        return self.requested
