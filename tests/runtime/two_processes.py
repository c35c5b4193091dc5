"""One of two processes that train a model together; prints losses. Arguments: port, index, size of the model axis."""

from __future__ import annotations

import json
import sys

import jax
import numpy as np
from tiny_network import tiny_batch, tiny_model, tiny_trainer

from t5x import metrics as metrics_lib
from t5x.adafactor import Adafactor, standard_logical_factor_rules
from t5x.partitioning import PjitPartitioner


def main(port: str, index: int, num_partitions: int) -> None:
    jax.distributed.initialize(f"localhost:{port}", num_processes=2, process_id=index)
    partitioner = PjitPartitioner(num_partitions=num_partitions)
    layout = partitioner.get_data_layout(8)
    optimizer = Adafactor(logical_factor_rules=standard_logical_factor_rules(), min_dim_size_to_factor=8)
    model = tiny_model(optimizer, dropout_rate=0.2, z_loss=1e-3)
    trainer = tiny_trainer(model, partitioner, learning_rate=0.1)
    losses = []
    for seed in range(3):
        rows = 8 // layout.num_shards
        own = slice(layout.shard_id * rows, (layout.shard_id + 1) * rows)
        batch = {name: value[own] for name, value in tiny_batch(seed=seed).items()}
        losses.append(metrics_lib.summarize(trainer.train_step(batch))["loss"])
    shards = {tuple(piece.data.shape) for piece in trainer.train_state.params["inner"].addressable_shards}
    assert np.isfinite(losses).all()
    print(json.dumps({"losses": losses, "devices": jax.device_count(), "shards": sorted(shards)}))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
