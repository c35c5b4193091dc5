"""What a run's train step is made of: random keys, data, the state's shapes and layout, and the trainer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import jax

from t5x import datasets
from t5x.data_position import TrainingData
from t5x.datasets import DatasetConfig


@dataclass(frozen=True)
class TrainingSetup:
    """The parts of a run.

    Attributes:
      model: as in the run's configuration.
      partitioner: as in the run's configuration.
      init_rng: key of the initial parameters.
      trainer_rng: key of dropout.
      data: this process's batches.
      batch: shape and dtype of every feature of a global batch.
      initializer: makes states.
    """

    model: Any
    partitioner: Any
    init_rng: jax.Array
    trainer_rng: jax.Array
    data: TrainingData
    batch: dict[str, jax.ShapeDtypeStruct]
    initializer: Any

    def trainer(self, trainer_cls: Callable[..., Any], eval_names: Sequence[str], summary_dir: str) -> Any:
        """Returns the trainer, of a state that has shapes and no values yet."""
        return trainer_cls(
            model=self.model,
            train_state=self.initializer.shapes,
            partitioner=self.partitioner,
            eval_names=list(eval_names),
            summary_dir=summary_dir,
            train_state_axes=self.initializer.train_state_axes,
            rng=self.trainer_rng,
        )


def set_up(
    model: Any,
    train_dataset_cfg: DatasetConfig,
    partitioner: Any,
    random_seed: int | None,
    use_hardware_rng: bool,
    get_dataset_fn: Callable[..., Any],
    train_state_initializer_cls: Callable[..., Any],
    verify_matching_vocabs_fn: Callable[..., None] | None,
    save_iterator: bool = False,
) -> TrainingSetup:
    """Returns the parts of a run; for the arguments see :func:`t5x.train.train`.

    Raises:
      FsaError: settings or data that do not fit.
    """
    init_rng, trainer_rng = jax.random.split(_random_key(random_seed, use_hardware_rng))
    if verify_matching_vocabs_fn is not None:
        verify_matching_vocabs_fn(train_dataset_cfg, model)
    layout = partitioner.get_data_layout(train_dataset_cfg.batch_size)
    data = TrainingData(
        train_dataset_cfg,
        layout.shard_id,
        layout.num_shards,
        model.FEATURE_CONVERTER_CLS,
        get_dataset_fn,
        save_iterator=save_iterator,
    )
    batch = datasets.feature_shapes(data.dataset, train_dataset_cfg.batch_size)
    initializer = train_state_initializer_cls(
        optimizer_def=model.optimizer_def,
        init_fn=model.get_initial_variables,
        input_shapes={name: spec.shape for name, spec in batch.items()},
        input_types={name: spec.dtype for name, spec in batch.items()},
        partitioner=partitioner,
    )
    return TrainingSetup(model, partitioner, init_rng, trainer_rng, data, batch, initializer)


def _random_key(seed: int | None, use_hardware_rng: bool) -> jax.Array:
    if seed is None or use_hardware_rng:
        jax.config.update("jax_default_prng_impl", "unsafe_rbg")
    return jax.random.PRNGKey(datasets.wall_clock_seed() if seed is None else seed)
