"""What a training starts from, for gin files that both engines read::

    utils.CheckpointConfig.restore = @starting_weights.parameters_only()
    starting_weights.parameters_only.path = %INITIAL_CHECKPOINT_PATH

A function, because a gin file cannot say "nothing to restore if the path is empty", and upstream T5X takes an empty
path for a checkpoint.
"""

from __future__ import annotations

from typing import Any


def parameters_only(path: str, checkpoint_manager_cls: Any = None) -> Any:
    """The engine's ``RestoreCheckpointConfig`` for the parameters of one checkpoint; steps and optimizer start anew.

    Args:
      path: a checkpoint, ``.../checkpoint_<step>``; empty for a start from scratch.
      checkpoint_manager_cls: what ``SaveCheckpointConfig`` was given, if anything: upstream wants the same in both.

    Returns:
      None where ``path`` is empty.
    """
    if not path:
        return None
    from t5x import utils

    options = {} if checkpoint_manager_cls is None else {"checkpoint_manager_cls": checkpoint_manager_cls}
    return utils.RestoreCheckpointConfig(
        path=path,
        mode="specific",
        dtype="float32",
        assignment_map=[("state/.*", None)],
        fallback_to_scratch=True,
        **options,
    )
