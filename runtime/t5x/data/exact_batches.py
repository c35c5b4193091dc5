"""Batches of exactly N examples in packed rows (``DatasetConfig.examples_per_batch``).

Every N examples of the data become one batch of ``batch_size`` rows, in which unused rows are zeros, so they have no
weight. If ``batch_size`` is N too, training chooses a smaller number of rows that is enough. A position in the data
counts batches. So with another number or length of rows, a run goes on with the same examples in the same order.

A feature converter that can do this takes ``examples_per_batch`` and ``rows_per_batch``, those of one process. If so
many examples need more rows, its dataset raises TensorFlow's InvalidArgumentError with :data:`NEEDED` in its message.
"""

from __future__ import annotations

import dataclasses
import math
import re
import statistics
from collections.abc import Callable
from typing import Any

import numpy as np

from fsa_base.errors import DataError, SettingError, require_number
from t5x.distributed import processes
from t5x.progress import announce

NEEDED = re.compile(r"rows needed: (\d+)")
CHECKED = 64
"""Batches that are packed at the start, to find the number of rows."""
DEVIATIONS = 5
"""Standard deviations above the mean, up to which a batch must fit. If the number of rows that batches need is normally
distributed, one batch in three million needs more."""

_SETTING = "DatasetConfig.examples_per_batch"
_ROWS = "--gin.train/utils.DatasetConfig.batch_size"
"""Not BATCH_SIZE, which gin/shared/exact_batches.gin has for the number of examples."""


def require_valid(examples: int, rows: int, pack: bool) -> None:
    """Raises SettingError if batches of so many rows cannot have exactly ``examples`` examples."""
    require_number(_SETTING, examples, 1, whole=True)
    if (rows > examples) if pack else (rows != examples):
        raise SettingError(
            "BATCH_SIZE",
            expected=f"at most {examples} rows" if pack else f"{examples} rows, because they are not packed",
            found=f"{rows}, with {_SETTING} = {examples}",
            fix=f"--gin.BATCH_SIZE={examples}, or another {_SETTING}",
        )


@dataclasses.dataclass(frozen=True)
class ExactBatches:
    """The batches of a training.

    Attributes:
      examples: Examples of a batch, of all processes together.
      rows: Rows of a batch, of all processes together.
      shards: Number of processes that load data.
    """

    examples: int
    rows: int
    shards: int

    def converter(self, make: Callable[..., Any]) -> Any:
        """Returns the feature converter of one process, which ``make`` creates.

        Raises:
          SettingError: The examples cannot be divided evenly, or it is another kind of converter.
        """
        if self.examples % self.shards:
            raise SettingError(
                _SETTING,
                expected=f"a multiple of {self.shards}, the number of processes that load data",
                found=str(self.examples),
                fix=f"--gin.train/utils.{_SETTING}={self._divisible(self.examples)}, or another number of processes",
            )
        try:
            return make(examples_per_batch=self.examples // self.shards, rows_per_batch=self.rows // self.shards)
        except TypeError as error:
            if "examples_per_batch" not in str(error):
                raise
            raise SettingError(
                _SETTING,
                expected="a feature converter with the argument examples_per_batch",
                found=f"another one: {str(error).splitlines()[0]}",
                fix=f"--gin.train/utils.{_SETTING}=None, or bind such a converter to the model's feature_converter_cls",
            ) from error

    def with_enough_rows(self, dataset: Any, multiple: int) -> ExactBatches:
        """Chooses the number of rows if it is the number of examples, which is the most that packing can need.

        A smaller number is kept. The first batches show how many are enough, so that a later one is unlikely to need
        more.

        Args:
          dataset: Batches of this process with as many rows as examples.
          multiple: Number that divides the rows that are chosen.

        Raises:
          SettingError: More rows are needed.
        """
        used = [_used_rows(batch) for batch in dataset.take(CHECKED).as_numpy_iterator()]
        if not used:
            return self
        mean, most = statistics.fmean(used), max(used)
        enough = max(most, math.ceil(mean + DEVIATIONS * statistics.pstdev(used)))
        enough = self.shards * processes.maximum(min(enough, self.examples // self.shards))
        need = f"the first {len(used)} batches need {mean * self.shards:.1f} on average, {most * self.shards} at most"
        if self.rows < enough:
            raise SettingError(
                "DatasetConfig.batch_size",
                expected=f"at least {enough} rows, so that any {self.examples} examples fit ({need})",
                found=str(self.rows),
                fix=f"{_ROWS}={enough}, or longer rows",
            )
        chosen = min(-(-enough // multiple) * multiple, self.rows) if self.rows == self.examples else self.rows
        announce(f"every batch has exactly {self.examples} examples in {chosen} rows; {need}")
        return dataclasses.replace(self, rows=chosen)

    def overflow(self, error: Exception, batch: int) -> DataError | None:
        """Returns the error of batch ``batch``, counted from 1, if ``error`` says that it needs more rows."""
        found = NEEDED.search(str(error))
        if found is None:
            return None
        needed = int(found[1]) * self.shards
        more = min(self.examples, self._divisible(math.ceil(1.05 * needed)))
        return DataError(
            f"batch {batch} of the training data",
            expected=f"{self.examples} examples that fit into {self.rows} rows",
            found=f"examples that need {needed}",
            fix=f"the same command with {_ROWS}={more}: it goes on with the same examples in the same order",
        )

    def _divisible(self, number: int) -> int:
        return -(-number // self.shards) * self.shards


def _used_rows(batch: dict[str, Any]) -> int:
    used = [values.any(axis=1) for name, values in batch.items() if name.endswith("segment_ids")]
    return int(np.logical_or.reduce(used).sum())
