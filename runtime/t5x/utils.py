"""The names that T5X's gin files use, such as ``utils.DatasetConfig``; defined in other modules."""

from t5x.checkpointing.config import CheckpointConfig, RestoreCheckpointConfig, SaveCheckpointConfig
from t5x.data.datasets import (
    DatasetConfig,
    get_dataset,
    get_training_eval_datasets,
    get_vocabulary,
    verify_matching_vocabs,
)
from t5x.optimizers import create_learning_rate_scheduler
from t5x.train_state import TrainStateInitializer

__all__ = [
    "CheckpointConfig",
    "DatasetConfig",
    "RestoreCheckpointConfig",
    "SaveCheckpointConfig",
    "TrainStateInitializer",
    "create_learning_rate_scheduler",
    "get_dataset",
    "get_training_eval_datasets",
    "get_vocabulary",
    "verify_matching_vocabs",
]
