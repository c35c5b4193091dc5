"""``python -m t5x.train``: train a model, or go on with it.

One step, from here to the device: :func:`train` → ``train_loop.steps`` → ``Trainer.train_step`` →
``PjitPartitioner`` → the model's ``loss_fn`` → the optimizer.
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import functools
import math
import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import jax

from fsa_base.checkpoint_files import damaged as damaged_checkpoint
from fsa_base.errors import CheckpointError, DamagedCheckpointError, SettingError, require_choice
from t5x import (
    checkpoints,
    command_line,
    datasets,
    device_memory,
    evaluation,
    hooks,
    metric_log,
    model_info,
    multihost,
    periods,
    run_lock,
    train_loop,
)
from t5x.actions import Actions
from t5x.checkpoint_config import CheckpointConfig, RestoreCheckpointConfig
from t5x.checkpoints import checkpoint_path, checkpoint_steps
from t5x.data_position import TrainingData
from t5x.datasets import DatasetConfig
from t5x.initialization import TrainStateInitializer
from t5x.periods import Periodic
from t5x.preemption import Interrupted, Preemption
from t5x.progress import Progress
from t5x.restoring import resolve_paths
from t5x.training_setup import set_up


def train(
    *,
    model: Any,
    train_dataset_cfg: DatasetConfig,
    train_eval_dataset_cfg: DatasetConfig | None,
    infer_eval_dataset_cfg: DatasetConfig | None,
    checkpoint_cfg: CheckpointConfig,
    partitioner: Any,
    trainer_cls: Callable[..., Any],
    model_dir: str,
    total_steps: int,
    eval_steps: int,
    eval_period: int,
    relative_steps: int | None = None,
    stats_period: int | None = None,
    random_seed: int | None,
    use_hardware_rng: bool = False,
    summarize_config_fn: Callable[[str, Any, int], None],
    inference_evaluator_cls: Callable[..., Any] = evaluation.seqio_evaluator,
    get_dataset_fn: Callable[..., Any] = datasets.get_dataset,
    concurrent_metrics: bool = True,
    actions: Mapping[Any, Sequence[Any]] | None = None,
    train_eval_get_dataset_fn: Callable[..., Any] = datasets.get_training_eval_datasets,
    run_eval_before_training: bool = False,
    train_state_initializer_cls: Callable[..., Any] = TrainStateInitializer,
    use_orbax: bool = True,
    verify_matching_vocabs_fn: Callable[..., None] | None = datasets.verify_matching_vocabs,
    gc_period: int = 0,
    on_corrupt_checkpoint: Literal["error", "previous"] = "error",
) -> tuple[int, Any]:
    """Trains ``model`` from the latest checkpoint in ``model_dir``, from the one to restore, or from scratch.

    Args:
      model: see t5x/models.py.
      train_dataset_cfg: the examples to train on.
      train_eval_dataset_cfg: the examples whose loss is evaluated, None for none.
      infer_eval_dataset_cfg: the examples that are decoded and scored by the task's metrics, None for none.
      checkpoint_cfg: when to save, what to restore.
      partitioner: the mesh.
      trainer_cls: makes the trainer from the state and the rest.
      model_dir: where the run lives.
      total_steps: step to train to, counted from the model's very first.
      eval_steps: batches of a training evaluation.
      eval_period: steps between evaluations. All periods count from the step at which ``model_dir`` began.
      relative_steps: steps to train from this start on, instead of ``total_steps``.
      stats_period: steps between rows of training metrics; the smaller of the other periods if None.
      random_seed: of initialisation and dropout; None takes the clock.
      use_hardware_rng: faster random numbers that depend on hardware and sharding.
      summarize_config_fn: ``fn(model_dir, metric_writer, step)``, records the configuration.
      inference_evaluator_cls: ``seqio.Evaluator`` or the like.
      get_dataset_fn: makes the training dataset.
      concurrent_metrics: whether metrics of decoded text are computed beside the next steps.
      actions: by ``TRAIN``, ``TRAIN_EVAL`` and ``INFER_EVAL`` (t5x/actions.py).
      train_eval_get_dataset_fn: makes the evaluation's datasets.
      run_eval_before_training: whether to evaluate at the step at which ``model_dir`` began too.
      train_state_initializer_cls: makes states.
      use_orbax: checkpoints are written by Orbax in any case; older ones are read without asking.
      verify_matching_vocabs_fn: ``fn(dataset_config, model)``, checks vocabularies; None for not.
      gc_period: steps between garbage collections, which then happen at no other time; 0 leaves them to Python.
      on_corrupt_checkpoint: ``error``, or ``previous`` to resume from the newest whole checkpoint and set damaged ones
        aside. One of another model or optimizer is an error in any case.

    Returns:
      The last step done and the state after it.

    Raises:
      FsaError: what the user can fix: settings, data, checkpoints.
      Interrupted: Ctrl-C, after the step was finished and saved; a KeyboardInterrupt.
    """
    del use_orbax
    began = time.monotonic()
    save = checkpoint_cfg.save
    save_period = save.period if save is not None else None
    require_choice("train.on_corrupt_checkpoint", on_corrupt_checkpoint, ("error", "previous"))
    _check_periods(save_period, eval_period)
    if train_eval_dataset_cfg is not None and eval_steps < 1:
        raise SettingError(
            "EVAL_STEPS",
            expected="a positive number of batches for the training evaluation",
            found=str(eval_steps),
            fix="--gin.EVAL_STEPS=20, or --gin.train.train_eval_dataset_cfg=None for no such evaluation",
        )
    checkpoints.require_writable(model_dir)
    setup = set_up(
        model,
        train_dataset_cfg,
        partitioner,
        random_seed,
        use_hardware_rng,
        get_dataset_fn,
        train_state_initializer_cls,
        verify_matching_vocabs_fn,
        save_iterator=save is not None and save.save_dataset,
    )
    data, batch, initializer = setup.data, setup.batch, setup.initializer
    eval_datasets = {}
    if train_eval_dataset_cfg is not None:
        eval_layout = partitioner.get_data_layout(train_eval_dataset_cfg.batch_size)
        eval_datasets = train_eval_get_dataset_fn(
            train_eval_dataset_cfg,
            eval_layout.shard_id,
            eval_layout.num_shards,
            eval_steps,
            model.FEATURE_CONVERTER_CLS,
        )
    decoded_tasks = [] if infer_eval_dataset_cfg is None else evaluation.scored_tasks(infer_eval_dataset_cfg)
    manager = None if save is None else save.make_manager(model_dir)
    metric_log.require_evaluated(
        getattr(manager, "metric", None), {"training_eval": list(eval_datasets), "inference_eval": decoded_tasks}
    )
    trainer = setup.trainer(trainer_cls, list(eval_datasets), model_dir)
    pool = concurrent.futures.ThreadPoolExecutor(1)
    with run_lock.claimed(model_dir), Preemption() as preemption, contextlib.ExitStack() as stack:
        stack.callback(pool.shutdown, wait=False)  # Ctrl-C does not wait for the compiler.
        # Compiling needs shapes alone, so it runs beside initialisation or restoring, and the first save.
        compiling = pool.submit(_timed, trainer.compile_train, batch)
        trainer.train_state, is_resuming = _first_state(
            initializer, model_dir, checkpoint_cfg.restore, setup.init_rng, data, on_corrupt_checkpoint
        )
        first = int(trainer.train_state.step)
        last = _last_step(first, total_steps, relative_steps)
        log = metric_log.MetricLog(os.path.join(model_dir, "train"))
        if is_resuming:
            metric_log.drop_rows_after(model_dir, first)
        elif old := metric_log.set_aside(model_dir):
            _say(f"{model_dir} has metrics and no checkpoint to go on from: they are kept as {', '.join(old)}")
        stats_period = stats_period or min(period for period in (save_period, eval_period) if period)
        began_at = periods.beginning(model_dir, first, is_resuming, stats_period)
        summarize_config_fn(model_dir, log.tensorboard, first)
        model_info.write(os.path.join(model_dir, "model-info.txt"), initializer.shapes, initializer.train_state_axes)
        timings = {"timing/init_or_restore_seconds": time.monotonic() - began}

        progress = Progress(first, last, enabled=jax.process_index() == 0)
        observed = Actions(actions, lambda: trainer.train_state)
        tokens = math.prod(batch["decoder_target_tokens"].shape) if "decoder_target_tokens" in batch else 0
        metrics = hooks.TrainMetrics(log, progress, Periodic(began_at, last, stats_period), tokens, observed.observe)
        saver = None
        if save is not None and manager is not None:
            at = Periodic(began_at, last, save.period, save.checkpoint_steps or ())
            saved = first if is_resuming else None
            saver = hooks.SaveCheckpoints(manager, save, trainer, data, at, metrics.flush, log, saved)
        evaluations: list[hooks.Evaluation] = []
        at = Periodic(began_at, last, eval_period)
        if eval_datasets:
            evaluations.append(hooks.TrainEvaluation(trainer, eval_datasets, model_dir, at, progress, observed.observe))
        if infer_eval_dataset_cfg is not None and not decoded_tasks:
            _say(
                f"no evaluation of decoded text: no task of {infer_eval_dataset_cfg.name} has metrics and the split "
                f"{infer_eval_dataset_cfg.split!r}"
            )
        elif infer_eval_dataset_cfg is not None:
            open_evaluator = functools.partial(
                evaluation.open_evaluator, infer_eval_dataset_cfg, model, model_dir, inference_evaluator_cls
            )
            evaluator = evaluation.InferenceEvaluator(
                open_evaluator, infer_eval_dataset_cfg.batch_size, model, partitioner, initializer.train_state_axes
            )
            decoded = hooks.InferenceEvaluation(
                evaluator, decoded_tasks, trainer, model_dir, at, progress, observed.observe, concurrent_metrics
            )
            evaluations.append(decoded)
            if manager is not None:
                manager.being_scored = decoded.pending
        run_hooks: list[hooks.Hook] = [metrics, *([saver] if saver else []), *evaluations]
        if gc_period:
            run_hooks.append(hooks.CollectGarbage(gc_period))

        if saver is not None and not is_resuming:
            saver.save(first)
        timings["timing/compilation_seconds"] = compiling.result()
        device_memory.require(trainer.step_memory, device_memory.limit())
        timings["timing/uptime"] = time.monotonic() - began
        log.write_once(first, timings)
        # A run that was killed between a save and its evaluation makes up for the evaluation.
        due = is_resuming and first in at and (first > began_at or first == last)
        for run_evaluation in evaluations:
            if (due or (run_eval_before_training and first == began_at)) and not multihost.broadcast(
                int(run_evaluation.done(first))
            ):
                run_evaluation.run(first)
        preemption.catch_interrupts()
        step = train_loop.run(
            trainer, data, first, last, run_hooks, lambda at: preemption.should_stop(at) or observed.should_stop()
        )
        if saver is not None and step < last:
            saver.save(step, interim=preemption.requested)
        for hook in reversed(run_hooks):
            hook.close()
        stopped = preemption.requested and step < last
        if stopped:
            why = "Ctrl-C" if preemption.interrupted else "SIGTERM"
            _say_preempted(progress, why, step, last, saver is not None)
    if stopped and preemption.interrupted:
        raise Interrupted
    return step, trainer.train_state


def _timed(function: Callable[..., Any], *arguments: Any) -> float:
    began = time.monotonic()
    function(*arguments)
    return time.monotonic() - began


def _check_periods(save_period: int | None, eval_period: int) -> None:
    """Saves and evaluations must fall together, or the best checkpoint would have no score.

    Raises:
      SettingError: neither period is a multiple of the other.
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


def _last_step(first: int, total_steps: int, relative_steps: int | None) -> int:
    if relative_steps:
        return first + relative_steps
    if total_steps < first:
        raise SettingError(
            "TRAIN_STEPS",
            expected=f"at least {first}, the step of the checkpoint that the run starts from",
            found=str(total_steps),
            fix=f"--gin.TRAIN_STEPS=N with N > {first} (it counts the steps of pre-training too), "
            "or TRAIN_STEPS_RELATIVE",
        )
    return total_steps


def _first_state(
    initializer: TrainStateInitializer,
    model_dir: str,
    restore: RestoreCheckpointConfig | None,
    init_rng: jax.Array,
    data: TrainingData,
    on_corrupt: str,
) -> tuple[Any, bool]:
    """Returns the state to begin with and whether the run resumes, having moved ``data`` to the state's position."""
    if (state := _resumed(initializer, model_dir, init_rng, data, on_corrupt)) is not None:
        return state, True
    if restore is not None and restore.paths:
        path = resolve_paths(restore)[-1]
        _say(f"starting from {path}")
        state = initializer.from_path(path, restore, init_rng)
        if restore.restore_dataset:
            _seek(data, checkpoints.epath.Path(path))
        return state, False
    _say("starting FROM SCRATCH with random weights: no checkpoint to start from is given (INITIAL_CHECKPOINT_PATH)")
    return initializer.from_scratch(init_rng), False


def _resumed(
    initializer: TrainStateInitializer, model_dir: str, init_rng: jax.Array, data: TrainingData, on_corrupt: str
) -> Any | None:
    """Returns the state of the newest checkpoint in ``model_dir``, or of the newest whole one; None without any.

    Damaged ones are set aside only when a whole one is found: a run that cannot go on changes nothing.

    Raises:
      CheckpointError: a checkpoint is damaged, or all are, or it is not one of this model.
    """
    own = RestoreCheckpointConfig(path=model_dir)
    damaged: dict[Any, str] = {}
    steps = checkpoint_steps(model_dir)
    while (step := multihost.broadcast(steps.pop() if steps else -1)) >= 0:
        path = checkpoint_path(model_dir, step)
        try:
            state = initializer.from_path(str(path), own, init_rng, is_resuming=True)
            _seek(data, path)
        except DamagedCheckpointError as error:
            if on_corrupt == "error":
                raise
            state = None  # two states may not fit
            damaged[path] = error.found
            continue
        for unusable, found in damaged.items():
            aside = checkpoints.set_aside(unusable).name
            _say(f"{unusable} cannot be used: {found}\nset aside as {aside}; going on with {path.name}")
        _say(f"resuming {path} (step {step})")
        return state
    aside = checkpoints.all_set_aside(model_dir)
    if damaged or aside:
        reasons = [f"{path.name}: {found}" for path, found in damaged.items()]
        raise CheckpointError(
            model_dir,
            expected="a whole checkpoint to go on from",
            found="; ".join(reasons) or f"only checkpoints that were set aside: {', '.join(aside)}",
            fix="put a whole checkpoint back, or begin anew in another directory: --gin.MODEL_DIR=\"'DIRECTORY'\"",
        )
    return None


def _seek(data: TrainingData, path: Any) -> None:
    """Moves ``data`` to the checkpoint's position; what is damaged for one process is damaged for all."""
    error = None
    try:
        data.seek(path / checkpoints.DATASET)
    except DamagedCheckpointError as own:
        error = own
    if multihost.any_process(error is not None):
        raise error or damaged_checkpoint(path, "its position in the data, which another process cannot read")


def _say(message: str) -> None:
    if jax.process_index() == 0:
        print(message, file=sys.stderr, flush=True)


def _say_preempted(progress: Progress, why: str, step: int, last: int, saved: bool) -> None:
    if saved:
        progress.say(
            f"{why}: saved checkpoint_{step} with its position in the data; "
            f"the same command goes on with step {step + 1} of {last}"
        )
    else:
        progress.say(f"{why}: stopped after step {step} of {last}; nothing is saved, SaveCheckpointConfig is None")


USAGE = """
Trains a model, or goes on with a training that was stopped.

  python -m t5x.train --gin_file=gin/distill_base.gin --gin.MODEL_DIR="'runs/base'" --gin.TRAIN_STEPS=1000

The same command again goes on from the newest checkpoint in MODEL_DIR. SIGTERM (exit status 0) and Ctrl-C (130) finish
the step and save it first; a second Ctrl-C stops at once.
"""


def main() -> None:
    """The command ``t5x_train``."""
    command_line.define_common_flags()
    command_line.run(USAGE, lambda: [train])


if __name__ == "__main__":
    main()
