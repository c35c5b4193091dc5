"""``python -m t5x.main --run_mode=precompile``: compile a training run's step, say what it takes, and stop.

Takes the run files of training. The compiled step stays in the compilation cache, where the training itself finds it.
"""

from __future__ import annotations

from typing import Any

import jax
import numpy as np
from etils import epath

from t5x import checkpoints, datasets, device_memory
from t5x.initialization import TrainStateInitializer
from t5x.training_setup import set_up

LOWERED = "lowered_hlo_pre_optimization"
COMPILED = "lowered_hlo_post_optimization"


def train(
    *,
    model: Any,
    train_dataset_cfg: datasets.DatasetConfig,
    partitioner: Any,
    trainer_cls: Any,
    model_dir: str,
    random_seed: int | None,
    use_hardware_rng: bool = False,
    get_dataset_fn: Any = datasets.get_dataset,
    train_state_initializer_cls: Any = TrainStateInitializer,
    verify_matching_vocabs_fn: Any = datasets.verify_matching_vocabs,
    **_: Any,
) -> None:
    """Compiles what :func:`t5x.train.train` with the same arguments would; those left out here do not change the step.

    Process 0 writes the step into ``model_dir`` as HLO text, before and after XLA's optimisations.

    Raises:
      FsaError: what the user can fix, among it a step that takes more memory than a device has.
    """
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
    )
    lowered = setup.trainer(trainer_cls, [], model_dir).lower_train(setup.batch)
    compiled = lowered.compile()
    memory = device_memory.of_step(compiled)
    if jax.process_index() == 0:
        directory = epath.Path(model_dir)
        (directory / LOWERED).write_text(lowered.as_text("hlo"))
        (directory / COMPILED).write_text(compiled.as_text() or "")
        mesh = ", ".join(f"{size} {axis}" for axis, size in partitioner.mesh.shape.items())
        parameters = sum(int(np.prod(leaf.shape)) for leaf in jax.tree.leaves(setup.initializer.shapes.params))
        print(
            f"{parameters:,} parameters on a mesh of {mesh}; the step takes {memory or 'an unknown amount of memory'}"
        )
    device_memory.require(memory, device_memory.limit())
