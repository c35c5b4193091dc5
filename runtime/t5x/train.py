"""``python -m t5x.train``: train a model, or continue an earlier training.

The call chain of one step, down to the device: :func:`train` → ``Trainer.train_step`` → ``PjitPartitioner`` → the
model's ``loss_fn`` → the optimizer. What happens around the steps is in t5x/hooks.
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import jax

from fsa_base.errors import DataError, SettingError, require_choice
from t5x.checkpointing.config import CheckpointConfig
from t5x.configuration import command_line
from t5x.data import datasets
from t5x.data.datasets import DatasetConfig
from t5x.data.position import TrainingData
from t5x.hooks.checkpoints import first_state
from t5x.hooks.run_directory import require_writable
from t5x.hooks.run_hooks import HookSettings, RunHooks
from t5x.inference import evaluation
from t5x.models.base import BaseModel
from t5x.partitioning import PjitPartitioner
from t5x.train_state import TrainState, TrainStateInitializer
from t5x.trainer import Trainer


def train(
    *,
    model: BaseModel,
    train_dataset_cfg: DatasetConfig,
    train_eval_dataset_cfg: DatasetConfig | None,
    infer_eval_dataset_cfg: DatasetConfig | None,
    checkpoint_cfg: CheckpointConfig,
    partitioner: PjitPartitioner,
    trainer_cls: Callable[..., Trainer],
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
    train_eval_get_dataset_fn: Callable[..., Mapping[str, Any]] = datasets.get_training_eval_datasets,
    run_eval_before_training: bool = False,
    train_state_initializer_cls: Callable[..., TrainStateInitializer] = TrainStateInitializer,
    use_orbax: bool = True,
    verify_matching_vocabs_fn: Callable[..., None] | None = datasets.verify_matching_vocabs,
    gc_period: int = 0,
    on_corrupt_checkpoint: Literal["error", "previous"] = "error",
) -> tuple[int, TrainState]:
    """Trains ``model`` from the latest checkpoint in ``model_dir``, from the one to restore, or from scratch.

    Args:
      model: Network, vocabularies and optimizer (t5x/models).
      train_dataset_cfg: Dataset to train on.
      train_eval_dataset_cfg: Dataset for evaluating the loss. If None, the loss is not evaluated.
      infer_eval_dataset_cfg: Dataset that is decoded and scored with the task's metrics. If None, nothing is decoded.
      checkpoint_cfg: When to save checkpoints, and which one to start from.
      partitioner: Distributes arrays over the devices.
      trainer_cls: Creates the trainer.
      model_dir: Directory of the run: checkpoints, metrics and configuration.
      total_steps: Last step, counted from the first step of pre-training.
      eval_steps: Number of batches of one loss evaluation.
      eval_period: Steps between evaluations. All periods are counted from the step at which ``model_dir`` began.
      relative_steps: Number of steps of this run, instead of ``total_steps``.
      stats_period: Steps between rows of training metrics. If None, the smaller of the other two periods.
      random_seed: Random seed for dropout and initialisation. If None, taken from the clock.
      use_hardware_rng: Use a faster random generator whose numbers depend on hardware and sharding.
      summarize_config_fn: ``fn(model_dir, metric_writer, step)``, writes the configuration to ``model_dir``.
      inference_evaluator_cls: ``seqio.Evaluator``, or a class with the same interface.
      get_dataset_fn: Creates the training dataset.
      concurrent_metrics: Compute metrics of decoded text in another thread while training continues.
      actions: Lists of actions (t5x/actions.py) under the keys ``TRAIN``, ``TRAIN_EVAL`` and ``INFER_EVAL``.
      train_eval_get_dataset_fn: Creates the datasets for evaluating the loss.
      run_eval_before_training: Also evaluate before the first step of a new ``model_dir``.
      train_state_initializer_cls: Creates train states.
      use_orbax: Ignored. Checkpoints are always written by Orbax, and older formats are recognised when read.
      verify_matching_vocabs_fn: ``fn(dataset_config, model)``, checks vocabularies. If None, they are not checked.
      gc_period: Steps between garbage collections, instead of Python's automatic ones. 0 keeps the automatic ones.
      on_corrupt_checkpoint: What to do if a checkpoint is damaged: ``error``, or ``previous`` to rename it and resume
        from the newest intact one. A checkpoint of another model or optimizer is always an error.

    Returns:
      The last completed step, and the state after it.

    Raises:
      FsaError: An error in settings, data or checkpoints that the user can fix.
      Interrupted: Ctrl-C was pressed; the current step was completed and saved. A KeyboardInterrupt.
    """
    del use_orbax
    began = time.monotonic()
    require_choice("train.on_corrupt_checkpoint", on_corrupt_checkpoint, ("error", "previous"))
    hook_settings = HookSettings(
        model_dir=model_dir,
        checkpoint_cfg=checkpoint_cfg,
        train_eval_dataset_cfg=train_eval_dataset_cfg,
        infer_eval_dataset_cfg=infer_eval_dataset_cfg,
        eval_steps=eval_steps,
        eval_period=eval_period,
        stats_period=stats_period,
        summarize_config_fn=summarize_config_fn,
        inference_evaluator_cls=inference_evaluator_cls,
        concurrent_metrics=concurrent_metrics,
        actions=actions,
        train_eval_get_dataset_fn=train_eval_get_dataset_fn,
        run_eval_before_training=run_eval_before_training,
        gc_period=gc_period,
    )
    require_writable(model_dir)
    setup = TrainingSetup(
        model=model,
        train_dataset_cfg=train_dataset_cfg,
        partitioner=partitioner,
        random_seed=random_seed,
        use_hardware_rng=use_hardware_rng,
        get_dataset_fn=get_dataset_fn,
        train_state_initializer_cls=train_state_initializer_cls,
        verify_matching_vocabs_fn=verify_matching_vocabs_fn,
        save_iterator=checkpoint_cfg.save is not None and checkpoint_cfg.save.save_dataset,
    )
    hooks = RunHooks(hook_settings, model, partitioner, setup.data, began)
    trainer = setup.trainer(trainer_cls, hooks.eval_names, model_dir)
    with hooks.around_run(), _compiling(trainer, setup.batch) as compilation:
        trainer.train_state, is_resuming = first_state(
            setup.initializer, model_dir, checkpoint_cfg.restore, setup.init_rng, setup.data, on_corrupt_checkpoint
        )
        first = step = int(trainer.train_state.step)
        last = _last_step(first, total_steps, relative_steps)
        hooks.begin(trainer, setup.initializer, first, last, is_resuming, setup.batch)
        compilation_seconds = compilation.result()
        trainer.require_memory()
        hooks.before_first_step(compilation_seconds)
        while not hooks.should_stop(step) and step < last:
            try:
                batch = next(setup.data)
            except DataError:
                hooks.save_before_error(step)
                raise
            metrics = trainer.train_step(batch)
            step += 1
            hooks.after_step(step, metrics)
        hooks.end(step)
    return step, trainer.train_state


@dataclass(kw_only=True)
class TrainingSetup:
    """The settings that training and precompilation share, and what they create from them.

    The settings are arguments of :func:`train`, except ``save_iterator``.

    Attributes:
      save_iterator: Whether checkpoints contain the state of tf.data's iterator.
      init_rng: Random key for the initial parameters.
      trainer_rng: Random key for dropout.
      data: The batches of this process.
      batch: Shape and dtype of every feature of a global batch.
      initializer: Creates train states.

    Raises:
      FsaError: Settings or data that do not fit together.
    """

    model: BaseModel
    train_dataset_cfg: DatasetConfig
    partitioner: PjitPartitioner
    random_seed: int | None
    use_hardware_rng: bool
    get_dataset_fn: Callable[..., Any]
    train_state_initializer_cls: Callable[..., TrainStateInitializer]
    verify_matching_vocabs_fn: Callable[..., None] | None
    save_iterator: bool = False
    init_rng: jax.Array = field(init=False)
    trainer_rng: jax.Array = field(init=False)
    data: TrainingData = field(init=False)
    batch: dict[str, jax.ShapeDtypeStruct] = field(init=False)
    initializer: TrainStateInitializer = field(init=False)

    def __post_init__(self) -> None:
        config = self.train_dataset_cfg
        if self.random_seed is None or self.use_hardware_rng:
            jax.config.update("jax_default_prng_impl", "unsafe_rbg")
        seed = datasets.wall_clock_seed() if self.random_seed is None else self.random_seed
        self.init_rng, self.trainer_rng = jax.random.split(jax.random.PRNGKey(seed))
        if self.verify_matching_vocabs_fn is not None:
            self.verify_matching_vocabs_fn(config, self.model)
        layout = self.partitioner.get_data_layout(config.batch_size)
        converter = self.model.FEATURE_CONVERTER_CLS
        self.data = TrainingData(
            config,
            layout.shard_id,
            layout.num_shards,
            converter,
            self.get_dataset_fn,
            self.save_iterator,
            rows_multiple=int(self.partitioner.mesh.shape["data"]),
        )
        self.batch = datasets.feature_shapes(self.data.dataset, self.data.batch_size)
        self.initializer = self.train_state_initializer_cls(
            optimizer_def=self.model.optimizer_def,
            init_fn=self.model.get_initial_variables,
            input_shapes={name: spec.shape for name, spec in self.batch.items()},
            input_types={name: spec.dtype for name, spec in self.batch.items()},
            partitioner=self.partitioner,
        )

    def trainer(self, trainer_cls: Callable[..., Trainer], eval_names: Sequence[str], summary_dir: str) -> Trainer:
        """Returns the trainer. Its state consists of shapes; it gets its values later."""
        return trainer_cls(
            model=self.model,
            train_state=self.initializer.shapes,
            partitioner=self.partitioner,
            eval_names=list(eval_names),
            summary_dir=summary_dir,
            train_state_axes=self.initializer.train_state_axes,
            rng=self.trainer_rng,
        )


@contextlib.contextmanager
def _compiling(
    trainer: Trainer, batch: Mapping[str, jax.ShapeDtypeStruct]
) -> Iterator[concurrent.futures.Future[float]]:
    """Compiles the train step in another thread; the result is the time in seconds that this took.

    Compilation needs only shapes, so it runs while the state is initialised or restored, and saved for the first time.
    """

    def seconds() -> float:
        began = time.monotonic()
        trainer.compile_train(batch)
        return time.monotonic() - began

    pool = concurrent.futures.ThreadPoolExecutor(1)
    try:
        yield pool.submit(seconds)
    finally:
        pool.shutdown(wait=False)  # After Ctrl-C, do not wait for the compiler.


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


USAGE = """
Trains a model, or continues a training that was stopped.

  python -m t5x.train --gin_file=gin/distill_base.gin --gin.MODEL_DIR="'runs/base'" --gin.TRAIN_STEPS=1000

The same command again continues from the newest checkpoint in MODEL_DIR. After SIGTERM (exit status 0) and Ctrl-C (130)
the current step is completed and saved first; a second Ctrl-C stops immediately.
"""


def main() -> None:
    """The command ``t5x_train``."""
    command_line.define_common_flags()
    command_line.run(USAGE, lambda: [train])


if __name__ == "__main__":
    main()
