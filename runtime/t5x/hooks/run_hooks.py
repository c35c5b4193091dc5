"""All hooks of one training run: created from its settings, called after every step, and closed at its end."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import gc
import math
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Protocol

import jax
from etils import epath
from flax.traverse_util import flatten_dict

from fsa_base.errors import SettingError
from t5x.actions import Actions, Preemption
from t5x.checkpointing.config import CheckpointConfig
from t5x.data.datasets import DatasetConfig
from t5x.data.position import TrainingData
from t5x.distributed import processes
from t5x.errors import Interrupted
from t5x.hooks import metric_log, run_directory
from t5x.hooks.checkpoints import SaveCheckpoints
from t5x.hooks.metrics import InferenceEvaluation, TrainEvaluation, TrainMetrics
from t5x.hooks.run_directory import Periodic
from t5x.inference import evaluation
from t5x.models.base import BaseModel
from t5x.partitioning import PjitPartitioner
from t5x.progress import Progress, announce
from t5x.train_state import TrainState, TrainStateInitializer
from t5x.trainer import Trainer


class Hook(Protocol):
    """Something that is called after every step."""

    def after_step(self, step: int, metrics: Mapping[str, Any]) -> None: ...

    def close(self) -> None: ...


class Evaluation(Hook, Protocol):
    """A hook that can also be run at any step."""

    def run(self, step: int) -> None: ...

    def done(self, step: int) -> bool: ...


class CollectGarbage:
    """Collects garbage only every ``period`` steps, so that all processes of a run pause at the same time."""

    def __init__(self, period: int) -> None:
        self._period = period
        gc.disable()

    def after_step(self, step: int, metrics: Mapping[str, Any]) -> None:
        del metrics
        if step % self._period == 0:
            gc.collect()

    def close(self) -> None:
        gc.enable()


@dataclasses.dataclass(frozen=True, kw_only=True)
class HookSettings:
    """The settings of the hooks. Every attribute is an argument of :func:`t5x.train.train`.

    Raises:
      SettingError: The periods do not fit together, or an evaluation has no batches.
    """

    model_dir: str
    checkpoint_cfg: CheckpointConfig
    train_eval_dataset_cfg: DatasetConfig | None
    infer_eval_dataset_cfg: DatasetConfig | None
    eval_steps: int
    eval_period: int
    stats_period: int | None
    summarize_config_fn: Callable[[str, Any, int], None]
    inference_evaluator_cls: Callable[..., Any]
    concurrent_metrics: bool
    actions: Mapping[Any, Sequence[Any]] | None
    train_eval_get_dataset_fn: Callable[..., Mapping[str, Any]]
    run_eval_before_training: bool
    gc_period: int

    def __post_init__(self) -> None:
        _check_periods(self.save_period, self.eval_period)
        if self.train_eval_dataset_cfg is not None and self.eval_steps < 1:
            raise SettingError(
                "EVAL_STEPS",
                expected="a positive number of batches for the training evaluation",
                found=str(self.eval_steps),
                fix="--gin.EVAL_STEPS=20, or --gin.train.train_eval_dataset_cfg=None for no such evaluation",
            )

    @property
    def save_period(self) -> int | None:
        """Steps between checkpoints; None if there are none."""
        return None if self.checkpoint_cfg.save is None else self.checkpoint_cfg.save.period


class RunHooks:
    """The hooks of one run: metrics, then checkpoints, then evaluations.

    The methods must be called in this order: :meth:`around_run` as a context, and inside it :meth:`begin`,
    :meth:`before_first_step`, after every step :meth:`after_step` and :meth:`should_stop`, and finally :meth:`end`.

    Args:
      settings: Settings of the hooks.
      model: Decodes and scores in evaluations.
      partitioner: Distributes arrays over the devices.
      data: The training data; its position is saved with checkpoints.
      began: ``time.monotonic()`` at the start of the run.

    Attributes:
      eval_names: Names of the loss evaluations.

    Raises:
      FsaError: Evaluation data is missing, or no evaluation computes the metric to monitor.
    """

    def __init__(
        self,
        settings: HookSettings,
        model: BaseModel,
        partitioner: PjitPartitioner,
        data: TrainingData,
        began: float,
    ) -> None:
        self._settings, self._model, self._partitioner, self._data = settings, model, partitioner, data
        self._began = began
        self._eval_data: Mapping[str, Any] = {}
        if (config := settings.train_eval_dataset_cfg) is not None:
            layout = partitioner.get_data_layout(config.batch_size)
            self._eval_data = settings.train_eval_get_dataset_fn(
                config, layout.shard_id, layout.num_shards, settings.eval_steps, model.FEATURE_CONVERTER_CLS
            )
        self.eval_names = list(self._eval_data)
        config = settings.infer_eval_dataset_cfg
        self._scored_tasks = [] if config is None else evaluation.scored_tasks(config)
        save = settings.checkpoint_cfg.save
        self._manager = None if save is None else save.make_manager(settings.model_dir)
        metric_log.require_evaluated(
            getattr(self._manager, "metric", None),
            {"training_eval": self.eval_names, "inference_eval": self._scored_tasks},
        )
        self._preemption = Preemption()

    @contextlib.contextmanager
    def around_run(self) -> Iterator[None]:
        """Locks MODEL_DIR for this run, and handles SIGTERM. A save in another thread ends before this context does."""
        with run_directory.claimed(self._settings.model_dir), self._preemption:
            try:
                yield
            finally:
                if self._manager is not None:
                    with contextlib.suppress(Exception):  # end() raises it, unless the run ends with another error.
                        self._manager.wait()

    def begin(
        self,
        trainer: Trainer,
        initializer: TrainStateInitializer,
        first: int,
        last: int,
        is_resuming: bool,
        batch: Mapping[str, jax.ShapeDtypeStruct],
    ) -> None:
        """Creates the hooks, writes the configuration, and saves the initial state of a new run.

        Args:
          trainer: The trainer, with the state of step ``first``.
          initializer: Has the shapes and the layout of the state.
          first: Step at which this start begins.
          last: Step at which it ends.
          is_resuming: Whether the run continues from a checkpoint in MODEL_DIR.
          batch: Shape and dtype of every feature of a global batch.
        """
        settings = self._settings
        model_dir = settings.model_dir
        self._trainer, self._first, self._last = trainer, first, last
        self._log = log = metric_log.MetricLog(os.path.join(model_dir, "train"))
        if is_resuming:
            metric_log.drop_rows_after(model_dir, first)
        elif old := metric_log.rename_old(model_dir):
            announce(
                f"{model_dir} has metrics of an earlier run, but no checkpoint to continue from: the metrics are "
                f"renamed to {', '.join(old)}"
            )
        stats_period = settings.stats_period or min(filter(None, (settings.save_period, settings.eval_period)))
        self._began_at = began_at = run_directory.beginning(model_dir, first, is_resuming, stats_period)
        settings.summarize_config_fn(model_dir, log.tensorboard, first)
        axes = initializer.train_state_axes
        _write_model_info(os.path.join(model_dir, "model-info.txt"), initializer.shapes, axes)
        self._seconds_to_first_state = time.monotonic() - self._began

        self._progress = Progress(first, last, enabled=jax.process_index() == 0)
        self._actions = Actions(settings.actions, lambda: trainer.train_state)
        tokens = math.prod(batch["decoder_target_tokens"].shape) if "decoder_target_tokens" in batch else 0
        stats_at = Periodic(began_at, last, stats_period)
        metrics = TrainMetrics(log, self._progress, stats_at, tokens, self._actions.observe)
        self._saver = None
        if (save := settings.checkpoint_cfg.save) is not None and self._manager is not None:
            save_at = Periodic(began_at, last, save.period, save.checkpoint_steps or ())
            saved = first if is_resuming else None
            self._saver = SaveCheckpoints(self._manager, save, trainer, self._data, save_at, metrics.flush, log, saved)
        eval_at = Periodic(began_at, last, settings.eval_period)
        # The earlier start may have been killed after saving and before the evaluation of this step.
        self._evaluation_is_due = is_resuming and first in eval_at and (first > began_at or first == last)
        self._evaluations = list(self._make_evaluations(eval_at, axes))
        self._hooks: list[Hook] = [metrics, *([self._saver] if self._saver else []), *self._evaluations]
        if settings.gc_period:
            self._hooks.append(CollectGarbage(settings.gc_period))
        if self._saver is not None and not is_resuming:
            self._saver.save(first)

    def _make_evaluations(self, at: Periodic, axes: TrainState) -> Iterator[Evaluation]:
        settings, trainer, progress, observe = self._settings, self._trainer, self._progress, self._actions.observe
        if self._eval_data:
            yield TrainEvaluation(trainer, self._eval_data, settings.model_dir, at, progress, observe)
        config = settings.infer_eval_dataset_cfg
        if config is None:
            return
        if not self._scored_tasks:
            announce(
                f"no evaluation of decoded text: no task of {config.name} has metrics and the split {config.split!r}"
            )
            return
        open_evaluator = functools.partial(
            evaluation.open_evaluator, config, self._model, settings.model_dir, settings.inference_evaluator_cls
        )
        evaluator = evaluation.InferenceEvaluator(
            open_evaluator, config.batch_size, self._model, self._partitioner, axes
        )
        decoded = InferenceEvaluation(
            evaluator,
            self._scored_tasks,
            trainer,
            settings.model_dir,
            at,
            progress,
            observe,
            settings.concurrent_metrics,
        )
        if self._manager is not None:
            self._manager.being_scored = decoded.pending
        yield decoded

    def before_first_step(self, compilation_seconds: float) -> None:
        """Writes how long the start took and runs evaluations that are due. From then on Ctrl-C requests a stop."""
        timings = {
            "timing/init_or_restore_seconds": self._seconds_to_first_state,
            "timing/compilation_seconds": compilation_seconds,
            "timing/uptime": time.monotonic() - self._began,
        }
        self._log.write_once(self._first, timings)
        wanted = self._settings.run_eval_before_training and self._first == self._began_at
        for evaluate in self._evaluations:
            if (self._evaluation_is_due or wanted) and not processes.broadcast(int(evaluate.done(self._first))):
                evaluate.run(self._first)
        self._preemption.catch_interrupts()

    def after_step(self, step: int, metrics: Mapping[str, Any]) -> None:
        """Calls every hook. ``metrics`` are still on the device: reading their values waits for the step."""
        for hook in self._hooks:
            hook.after_step(step, metrics)

    def should_stop(self, step: int) -> bool:
        """Returns whether a signal or an action requests a stop after ``step``; the same on every process."""
        return self._preemption.should_stop(step) or self._actions.should_stop()

    def save_before_error(self, step: int) -> None:
        """Saves the state of a run that ends with an error in its data. Several processes save nothing then: those
        without the error are already in the next step.
        """
        if self._saver is not None and jax.process_count() == 1:
            self._saver.save(step, interim=True)
            self._progress.say(f"error in the training data: saved checkpoint_{step}")

    def end(self, step: int) -> None:
        """Saves the state if the run stopped early, and closes the hooks.

        Raises:
          Interrupted: Ctrl-C stopped the run at ``step``.
        """
        if self._saver is not None and step < self._last:
            self._saver.save(step, interim=self._preemption.requested)
        for hook in reversed(self._hooks):
            hook.close()
        if step == self._last:
            where = f": checkpoint_{step} is in {self._settings.model_dir}" if self._saver is not None else ""
            self._progress.say(f"done, step {step} of {step}{where}")
            return
        if not self._preemption.requested:
            return
        why = "Ctrl-C" if self._preemption.interrupted else "SIGTERM"
        if self._saver is not None:
            self._progress.say(
                f"{why}: saved checkpoint_{step} with its position in the data; "
                f"the same command continues with step {step + 1} of {self._last}"
            )
        else:
            self._progress.say(
                f"{why}: stopped after step {step} of {self._last}; nothing is saved, SaveCheckpointConfig is None"
            )
        if self._preemption.interrupted:
            raise Interrupted


def _check_periods(save_period: int | None, eval_period: int) -> None:
    """Checks that saves and evaluations coincide. Otherwise the best checkpoint could have no score.

    Raises:
      SettingError: Neither period is a multiple of the other.
    """
    if not eval_period or eval_period < 0:
        raise SettingError(
            "train.eval_period",
            expected="a positive number",
            found=repr(eval_period),
            fix="--gin.train.eval_period=1000",
        )
    if save_period and save_period % eval_period and eval_period % save_period:
        raise SettingError(
            "train.eval_period",
            expected=f"a multiple or a divisor of the save period, {save_period}",
            found=str(eval_period),
            fix=f"--gin.train.eval_period={save_period}, or change utils.SaveCheckpointConfig.period",
        )


def _write_model_info(path: str, state: TrainState, axes: TrainState) -> None:
    """Writes name, shape, dtype and partitioning of every array of ``state`` to ``path``, on process 0."""
    if jax.process_index() != 0:
        return
    entries: dict[str, Any] = dict(flatten_dict(state.state_dict(), sep="/"))
    mesh_axes: dict[str, Any] = dict(flatten_dict(axes.state_dict(), sep="/"))
    lines = [f"{'entry':<90} {'size':>12}  {'shape':<24} {'dtype':<10} mesh axes"]
    for name in sorted(entries):
        entry = entries[name]
        size, shape, mesh_axis = math.prod(entry.shape), str(tuple(entry.shape)), tuple(mesh_axes[name] or ())
        lines.append(f"{name:<90} {size:>12,}  {shape:<24} {entry.dtype!s:<10} {mesh_axis}")
    total = sum(math.prod(entry.shape) for name, entry in entries.items() if name.startswith("target/"))
    lines.append(f"Total number of parameters: {total:,}")
    epath.Path(path).write_text("\n".join(lines) + "\n")
