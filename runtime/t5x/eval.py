"""``python -m t5x.eval``: decode and score a task with one checkpoint, or with every checkpoint of a directory."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
from etils import epath

from t5x import gin_utils
from t5x.checkpointing import restoring
from t5x.checkpointing.config import RestoreCheckpointConfig
from t5x.configuration import command_line
from t5x.data import datasets
from t5x.data.datasets import DatasetConfig
from t5x.distributed import processes
from t5x.hooks import metric_log, run_directory
from t5x.hooks.metrics import TrainEvaluation, listed
from t5x.hooks.run_directory import Periodic
from t5x.inference import evaluation
from t5x.models.base import BaseModel
from t5x.partitioning import PjitPartitioner
from t5x.progress import Progress
from t5x.train_state import TrainStateInitializer
from t5x.trainer import Trainer


def evaluate(
    *,
    model: BaseModel,
    dataset_cfg: DatasetConfig,
    restore_checkpoint_cfg: RestoreCheckpointConfig,
    partitioner: PjitPartitioner,
    output_dir: str,
    inference_evaluator_cls: Callable[..., Any] = evaluation.seqio_evaluator,
    training_evaluator_cls: Callable[..., Trainer] | None = None,
    summarize_config_fn: Callable[[str, Any, int], None] = gin_utils.summarize_gin_config,
    train_state_initializer_cls: Callable[..., TrainStateInitializer] = TrainStateInitializer,
    train_eval_get_dataset_fn: Callable[..., Any] = datasets.get_whole_split_datasets,
    fallback_init_rng: int | None = None,
    use_orbax: bool = True,
) -> None:
    """Evaluates the checkpoints that ``restore_checkpoint_cfg`` names, in the order of their steps.

    Results are written to ``output_dir/inference_eval``. ``output_dir/eval.<task>.ckpt`` contains the path of the last
    evaluated checkpoint. In mode ``all``, a run that is started again skips the checkpoints up to this one.

    Args:
      model: Network and vocabularies (t5x/models).
      dataset_cfg: Dataset to evaluate.
      restore_checkpoint_cfg: Checkpoints to evaluate.
      partitioner: Distributes arrays over the devices.
      output_dir: Directory for the results.
      inference_evaluator_cls: ``seqio.Evaluator``, or a class with the same interface.
      training_evaluator_cls: A trainer class. If given, the loss on the targets is evaluated too.
      summarize_config_fn: Writes the configuration.
      train_state_initializer_cls: Creates states.
      train_eval_get_dataset_fn: Creates the datasets for ``training_evaluator_cls``; by default every example once.
      fallback_init_rng: Random seed for entries that are missing in the checkpoint. If None, they are an error.
      use_orbax: Ignored. The format of a checkpoint is recognised from its files.

    Raises:
      FsaError: An error in settings, data or checkpoints that the user can fix.
    """
    del use_orbax
    run_directory.require_writable(output_dir)
    datasets.verify_matching_vocabs(dataset_cfg, model)
    paths = restoring.require_paths(restore_checkpoint_cfg)
    seqio_evaluator = evaluation.open_evaluator(dataset_cfg, model, output_dir, inference_evaluator_cls)
    shapes = evaluation.input_shapes(seqio_evaluator, dataset_cfg.batch_size)
    initializer = train_state_initializer_cls(
        optimizer_def=None,
        init_fn=model.get_initial_variables,
        input_shapes={name: spec.shape for name, spec in shapes.items()},
        input_types={name: spec.dtype for name, spec in shapes.items()},
        partitioner=partitioner,
    )
    log = metric_log.MetricLog(output_dir)
    summarize_config_fn(output_dir, log.tensorboard, 0)
    log.close()
    progress = Progress(0, len(paths), enabled=jax.process_index() == 0)
    evaluator = evaluation.InferenceEvaluator(
        lambda: seqio_evaluator, dataset_cfg.batch_size, model, partitioner, initializer.train_state_axes
    )
    training = None
    if training_evaluator_cls is not None:
        layout = partitioner.get_data_layout(dataset_cfg.batch_size)
        batches = train_eval_get_dataset_fn(
            dataset_cfg, layout.shard_id, layout.num_shards, None, model.FEATURE_CONVERTER_CLS
        )
        trainer = training_evaluator_cls(
            model=model,
            train_state=initializer.shapes,
            partitioner=partitioner,
            eval_names=list(batches),
            summary_dir=output_dir,
            train_state_axes=initializer.train_state_axes,
            rng=jax.random.PRNGKey(0),
        )
        at = Periodic(0, 0, None)
        training = TrainEvaluation(trainer, batches, output_dir, at, progress, lambda mode, metrics: None)
    done = epath.Path(output_dir) / f"eval.{dataset_cfg.name}.ckpt"
    evaluated = done.read_text().strip() if jax.process_index() == 0 and done.exists() else ""
    if restore_checkpoint_cfg.mode == "all" and evaluated in paths:
        progress.say(f"evaluated already, up to {evaluated}")
        paths = paths[paths.index(evaluated) + 1 :]
    paths = processes.broadcast_texts(paths)  # Only process 0 knows which ones were evaluated.
    init_rng = None if fallback_init_rng is None else jax.random.PRNGKey(fallback_init_rng)
    for path in paths:
        state = initializer.from_path(path, restore_checkpoint_cfg, init_rng)
        step = int(state.step)
        progress.say(f"evaluating {path} (step {step})")
        if training is not None:
            trainer.train_state = state
            training.run(step)
        evaluator.start(state, step)
        for task, values in evaluator.finish().items():
            progress.say(f"step {step}: inference_eval/{task}  {listed(values)}")
        processes.barrier(f"evaluated {path}")
        if jax.process_index() == 0:
            done.write_text(path)
    if training is not None:
        training.close()


USAGE = """
Decodes and scores a task with one checkpoint, or with every checkpoint of a directory.

  python -m t5x.eval --gin_file=gin/eval_base.gin --gin.CHECKPOINT_PATH="'runs/base/checkpoint_1000'" \\
    --gin.EVAL_OUTPUT_DIR="'runs/base/eval'"

Results: EVAL_OUTPUT_DIR/inference_eval/TASK-metrics.jsonl.
"""


def main() -> None:
    """The command ``t5x_eval``."""
    command_line.define_common_flags()
    command_line.run(USAGE, lambda: [evaluate])


if __name__ == "__main__":
    main()
