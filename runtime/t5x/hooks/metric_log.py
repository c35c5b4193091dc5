"""Metrics on disk: one JSONL file and TensorBoard events for each kind of metric.

``train/metrics.jsonl`` and ``training_eval/<task>/metrics.jsonl`` are written here,
``inference_eval/<task>-metrics.jsonl`` by SeqIO's JSONLogger. Each row is ``{"step": n, name: value, ...}``. A run that
resumes from step ``n`` first deletes the rows after ``n``, so the file looks as if the run had never stopped. If a step
occurs twice (a repeated evaluation), the last row counts. TensorBoard events cannot be deleted; there the later event
of a step counts.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
from etils import epath

from fsa_base.disk import free_path, replacing
from fsa_base.errors import SettingError
from fsa_base.runs import METRICS, metric_rows, read_row, split_metric
from t5x.distributed import processes


class MetricLog:
    """Writes the metrics of one directory; only process 0 writes.

    Args:
      directory: Where the files are written, for example MODEL_DIR/train.
    """

    def __init__(self, directory: str | Path) -> None:
        self._directory = epath.Path(directory)
        self._enabled = jax.process_index() == 0
        self._tensorboard: Any = None
        if self._enabled:
            self._directory.mkdir(parents=True, exist_ok=True)

    def write(self, step: int, values: Mapping[str, Any]) -> None:
        """Writes ``values`` (numbers by name) at ``step``."""
        if not self._enabled:
            return
        numbers = {name: float(value) for name, value in values.items()}
        row = {name: value if math.isfinite(value) else str(value) for name, value in numbers.items()}
        with (self._directory / METRICS).open("a") as file:
            file.write(json.dumps({"step": step, **row}) + "\n")
        self.tensorboard.write_scalars(step, numbers)

    def write_once(self, step: int, values: Mapping[str, float]) -> None:
        """Writes ``values`` only to TensorBoard: values that belong to the start of a run, not to a step."""
        if self._enabled:
            self.tensorboard.write_scalars(step, dict(values))

    @property
    def tensorboard(self) -> Any:
        """The metric writer of CLU. It is created, and TensorFlow imported, at the first use."""
        if self._tensorboard is None:
            from clu import metric_writers

            if self._enabled:
                self._tensorboard = metric_writers.AsyncWriter(metric_writers.SummaryWriter(str(self._directory)))
            else:
                self._tensorboard = metric_writers.MultiWriter([])
        return self._tensorboard

    def close(self) -> None:
        """Waits until all metrics are on disk."""
        if self._tensorboard is not None:
            self._tensorboard.flush()
            self._tensorboard.close()


def drop_rows_after(model_dir: str | Path, step: int) -> int:
    """Deletes the rows after ``step``, and invalid lines, from every JSONL file of metrics; returns how many.

    Process 0 does this, and the other processes wait.
    """
    dropped = _drop_all_after(model_dir, step) if jax.process_index() == 0 else 0
    processes.barrier(f"metrics after {step} dropped")
    return processes.broadcast(dropped)


def rename_old(model_dir: str | Path) -> list[str]:
    """Renames the JSONL files of metrics of an earlier run; returns their new names.

    Otherwise the checkpoints of a new run, which have the same steps, would be ranked by these metrics. Process 0 does
    this, and the other processes wait.
    """
    renamed = []
    if jax.process_index() == 0:
        for file in _files(model_dir):
            renamed.append(str(file.rename(free_path(file, ".old"))))
    processes.barrier("old metrics renamed")
    return renamed


def _drop_all_after(model_dir: str | Path, step: int) -> int:
    return sum(_drop_rows(file, step) for file in _files(model_dir))


def _files(model_dir: str | Path) -> list[epath.Path]:
    root = epath.Path(model_dir)
    files = [
        root / "train" / METRICS,
        *root.glob(f"training_eval/*/{METRICS}"),
        *root.glob(f"inference_eval/*-{METRICS}"),
    ]
    return [file for file in files if file.exists()]


def _drop_rows(file: epath.Path, step: int) -> int:
    lines = file.read_bytes().splitlines()
    kept = [line for line in lines if (row := read_row(line)) is not None and row["step"] <= step]
    if len(kept) < len(lines):
        with replacing(file) as partial:
            partial.write_bytes(b"".join(line + b"\n" for line in kept))
    return len(lines) - len(kept)


def has_row(model_dir: str | Path, kind: str, task: str, step: int) -> bool:
    """Returns whether the metrics of ``step`` are on disk."""
    return any(row["step"] == step for row in metric_rows(model_dir, kind, task))


def require_evaluated(name: str | None, evaluated: Mapping[str, Sequence[str]]) -> None:
    """Checks that a run computes the metric by which it keeps the best checkpoints. Otherwise it would keep all.

    Args:
      name: Name of the metric as in ``fsa_base.runs.BestBy``. If None, nothing is checked.
      evaluated: Tasks that are evaluated, under ``training_eval`` and ``inference_eval``.

    Raises:
      SettingError: The task of the metric is not evaluated.
    """
    if name is None:
        return
    kind, task, metric = split_metric(name)
    tasks = evaluated.get(kind, ())
    if kind != "train" and task not in tasks:
        one = f", such as {kind}/{tasks[0]}/{metric}" if tasks else ""
        raise SettingError(
            "metric_name_to_monitor",
            expected=f"a metric of a task that this run evaluates{one}",
            found=repr(name),
            fix="bind another (BEST_BY in our gin files), or evaluate that task",
        )
