"""T5X's names for what writes checkpoints, and the steps of those in a directory; defined in t5x/checkpointing."""

from fsa_base.checkpoint_files import checkpoint_steps
from t5x.checkpointing.manager import (
    Checkpointer,
    CheckpointManager,
    OrbaxCheckpointManagerInterface,
    SaveBestCheckpointer,
    checkpoint_path,
)

__all__ = [
    "CheckpointManager",
    "Checkpointer",
    "OrbaxCheckpointManagerInterface",
    "SaveBestCheckpointer",
    "checkpoint_path",
    "checkpoint_steps",
]
