"""``python -m t5x.main --run_mode=precompile``: compile the training step, print the memory it needs, and stop.

It reads the run files of training. The compiled step is kept in the compilation cache, where the training finds it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from etils import epath

from t5x.data import datasets
from t5x.hooks import run_directory
from t5x.models.base import BaseModel
from t5x.partitioning import PjitPartitioner
from t5x.train import TrainingSetup
from t5x.train_state import TrainStateInitializer
from t5x.trainer import Trainer

LOWERED = "lowered_hlo_pre_optimization"
COMPILED = "lowered_hlo_post_optimization"


def train(
    *,
    model: BaseModel,
    train_dataset_cfg: datasets.DatasetConfig,
    partitioner: PjitPartitioner,
    trainer_cls: Callable[..., Trainer],
    model_dir: str,
    random_seed: int | None,
    use_hardware_rng: bool = False,
    get_dataset_fn: Callable[..., Any] = datasets.get_dataset,
    train_state_initializer_cls: Callable[..., TrainStateInitializer] = TrainStateInitializer,
    verify_matching_vocabs_fn: Callable[..., None] | None = datasets.verify_matching_vocabs,
    **_: Any,
) -> None:
    """Compiles the step that :func:`t5x.train.train` runs with these arguments; its others do not change the step.

    Process 0 writes the step into ``model_dir`` as HLO text, before and after XLA's optimisations.

    Raises:
      FsaError: An error that the user can fix, for example a step that needs more memory than a device has.
    """
    run_directory.require_writable(model_dir)
    setup = TrainingSetup(
        model=model,
        train_dataset_cfg=train_dataset_cfg,
        partitioner=partitioner,
        random_seed=random_seed,
        use_hardware_rng=use_hardware_rng,
        get_dataset_fn=get_dataset_fn,
        train_state_initializer_cls=train_state_initializer_cls,
        verify_matching_vocabs_fn=verify_matching_vocabs_fn,
    )
    trainer = setup.trainer(trainer_cls, [], model_dir)
    lowered, compiled = trainer.compile_train(setup.batch)
    if jax.process_index() == 0:
        directory = epath.Path(model_dir)
        (directory / LOWERED).write_text(lowered.as_text("hlo"))
        (directory / COMPILED).write_text(compiled.as_text() or "")
        mesh = ", ".join(f"{size} {axis}" for axis, size in partitioner.mesh.shape.items())
        parameters = sum(int(np.prod(leaf.shape)) for leaf in jax.tree.leaves(setup.initializer.shapes.params))
        memory = trainer.step_memory or "an unknown amount of memory"
        print(f"{parameters:,} parameters on a mesh of {mesh}; the step takes {memory}")
    trainer.require_memory()
