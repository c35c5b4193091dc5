"""When a run saves, evaluates and writes metrics: a grid of steps that begins where its MODEL_DIR began.

The grid stays the same however often the run is stopped and started again.
"""

from __future__ import annotations

from collections.abc import Iterable

import jax
from absl import logging
from etils import epath

from t5x import checkpoints, metric_log, multihost

BEGAN = "began_at_step.txt"


class Periodic:
    """Which steps something happens at: every ``period`` counted from ``began``, the ``extra`` ones and ``last``."""

    def __init__(self, began: int, last: int, period: int | None, extra: Iterable[int] = ()) -> None:
        self._began, self._last, self._period, self._extra = began, last, period, frozenset(extra)

    def __contains__(self, step: int) -> bool:
        on_period = bool(self._period) and (step - self._began) % (self._period or 1) == 0
        return on_period or step == self._last or step in self._extra


def beginning(model_dir: str, first: int, is_resuming: bool, stats_period: int) -> int:
    """Returns the step at which ``model_dir`` began (fine-tuning: that of the checkpoint that it started from).

    A first start records it. Where the record is missing (older runs, upstream's), it is told from what is there: the
    first checkpoint, and the first row of training metrics, which is written one period after the beginning.

    Args:
      model_dir: the run's directory.
      first: step of this start.
      is_resuming: whether it goes on from a checkpoint in ``model_dir``.
      stats_period: steps between rows of training metrics.
    """
    began = first
    if jax.process_index() == 0:
        file = epath.Path(model_dir) / BEGAN
        recorded = _recorded(file, first) if is_resuming else None
        if recorded is None:
            began = _guessed(model_dir, first, stats_period) if is_resuming else first
            partial = file.parent / f"{file.name}.tmp"
            partial.write_text(f"{began}\n")
            partial.replace(file)
        else:
            began = recorded
    return multihost.broadcast(began)


def _recorded(file: epath.Path, first: int) -> int | None:
    if not file.exists():
        return None
    text = file.read_bytes().decode(errors="replace").strip()
    if text.isdecimal() and int(text) <= first:
        return int(text)
    logging.warning(
        "%s: expected a step up to %d, found %r; it is told from checkpoints and metrics", file, first, text
    )
    return None


def _guessed(model_dir: str, first: int, stats_period: int) -> int:
    row = metric_log.first_step(model_dir)
    return min(
        [first, *checkpoints.checkpoint_steps(model_dir)[:1], *([] if row is None else [max(0, row - stats_period)])]
    )
