"""The initial weights of a training, for gin files of both engines::

    utils.CheckpointConfig.restore = @starting_weights.parameters_only()
    starting_weights.parameters_only.path = %INITIAL_CHECKPOINT_PATH

A function is needed, because a gin file cannot express "restore nothing if the path is empty", and upstream T5X would
treat an empty path as a checkpoint.
"""

from __future__ import annotations

from typing import Any


def parameters_only(path: str, checkpoint_manager_cls: Any = None) -> Any:
    """The engine's ``RestoreCheckpointConfig`` for the parameters of a checkpoint, without step and optimizer state.

    Args:
      path: path of a checkpoint, ``.../checkpoint_<step>``; empty to start from scratch.
      checkpoint_manager_cls: the class that ``SaveCheckpointConfig`` uses, if set; upstream T5X needs the same in both.

    Returns:
      The configuration; None if ``path`` is empty.
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
