"""Reads the metrics of the checkpoints in a run's MODEL_DIR, and finds the best checkpoint.

Used in gin files for both engines::

    CHECKPOINT_PATH = @runs.best_checkpoint()
    runs.best_checkpoint.directory = %MODEL_DIR

and by commands, which accept ``MODEL_DIR@best`` and ``MODEL_DIR@newest``.
"""

from __future__ import annotations

import dataclasses
import json
import math
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from fsa_base import checkpoint_files, run_config, untrusted_json
from fsa_base.disk import as_path, replacing
from fsa_base.errors import CheckpointError, FsaError, SettingError, require_choice

METRICS = "metrics.jsonl"
BEST_BY = "best_by.json"
"""File next to the checkpoints with the metric by which the run keeps the best ones."""

_CHOICE = re.compile(r"(.+)@(best|newest)")


@dataclasses.dataclass(frozen=True)
class BestBy:
    """The criterion for the best checkpoint.

    Args:
      metric: name of the metric: ``train/<metric>``, ``training_eval/<task>/<metric>`` or
        ``inference_eval/<task>/<metric>``; ``eval/`` before the metric, as in TensorBoard's tags, may be left out.
      mode: ``max`` or ``min``.
    """

    metric: str
    mode: str = "max"

    def __post_init__(self) -> None:
        require_choice("metric_mode", self.mode, ("max", "min"), "bind {setting} = '{choice}'")


def best_checkpoint(directory: str, metric: str | None = None, mode: str | None = None) -> str:
    """Returns the path of the best checkpoint that exists in ``directory``.

    If several have the same value, the latest one is the best. Checkpoints without a value, or with a value that is not
    a finite number, are never the best. The files of the checkpoint are not read here; if it is damaged, the function
    that reads it raises an error, and no other checkpoint is used.

    Args:
      directory: MODEL_DIR of the run.
      metric: name of the metric, see :class:`BestBy`; by default the one by which the run keeps the best checkpoints.
      mode: ``max`` or ``min``; by default that of the run, or ``max`` if ``metric`` is given.

    Raises:
      CheckpointError: there is no checkpoint, or none with a value.
      SettingError: no metric is given and the run has none for the best checkpoint, or the run has no such metric.
    """
    steps = _require_steps(directory)
    best_by = BestBy(metric, mode or "max") if metric else _require_best_by(directory)
    if mode is not None:
        best_by = dataclasses.replace(best_by, mode=mode)
    step = best_step(directory, best_by, steps)
    if step is None:
        raise CheckpointError(
            directory,
            expected=f"a checkpoint with a finite {best_by.metric}",
            found=f"none among the checkpoints of steps {', '.join(map(str, steps))}",
            fix=f"use the newest, {directory}@newest (in gin: @runs.newest_checkpoint()), or give a checkpoint",
        )
    values = read_metrics(directory, best_by.metric)
    ever = _ranked(values, best_by)[-1]
    if _worth(values[ever], best_by) > _worth(values[step], best_by):
        print(
            f"{directory}: {best_by.metric} was best at step {ever} ({values[ever]:g}), but that checkpoint does not "
            f"exist; the best existing one is checkpoint_{step} ({values[step]:g})",
            file=sys.stderr,
        )
    return str(as_path(directory) / f"checkpoint_{step}")


def newest_checkpoint(directory: str) -> str:
    """Returns the path of the checkpoint of the last step in ``directory``.

    Raises:
      CheckpointError: there is no checkpoint.
    """
    return str(as_path(directory) / f"checkpoint_{_require_steps(directory)[-1]}")


def named(path: Path) -> Path:
    """Returns the checkpoint for ``MODEL_DIR@best`` or ``MODEL_DIR@newest``; any other path is returned unchanged.

    ``runs/finetuned@newest`` becomes ``runs/finetuned/checkpoint_400``, if that is its last checkpoint.

    An existing path is returned unchanged, even if its name ends in ``@best``.

    Raises:
      CheckpointError, SettingError: see :func:`best_checkpoint` and :func:`newest_checkpoint`.
    """
    match = _CHOICE.fullmatch(str(path))
    if match is None or path.exists():
        return path
    choose = best_checkpoint if match[2] == "best" else newest_checkpoint
    return Path(choose(match[1]))


def resolve(path: Path) -> Path:
    """Like :func:`named`, for commands that use the newest checkpoint if they get a MODEL_DIR only.

    Prints a note on standard error if the best checkpoint of the run is not the newest one.
    """
    found = named(path)
    _say_if_another_is_best(found)
    return found


def _say_if_another_is_best(directory: Path) -> None:
    steps = checkpoint_files.checkpoint_steps(directory)
    try:
        best_by = recorded_best_by(directory) if steps else None
        step = best_step(directory, best_by, steps) if best_by else None
    except FsaError:  # The user did not ask for the best checkpoint, so this is no error.
        return
    if best_by and step is not None and step != steps[-1]:
        print(
            f"{directory}: using checkpoint_{steps[-1]}, the newest; the best by {best_by.metric} is "
            f"checkpoint_{step}: {directory}@best",
            file=sys.stderr,
        )


def _require_steps(directory: str | Path) -> list[int]:
    steps = checkpoint_files.checkpoint_steps(directory)
    if not steps:
        raise CheckpointError(
            directory,
            expected="a run's MODEL_DIR with at least one checkpoint_<step>",
            found="none" if as_path(directory).exists() else "nothing",
            fix="check the path",
        )
    return steps


def best_step(directory: Any, best_by: BestBy, steps: Sequence[int]) -> int | None:
    """Returns the best of ``steps``; None if none has a finite value."""
    values = read_metrics(directory, best_by.metric)
    finite = {step: values[step] for step in steps if step in values and math.isfinite(values[step])}
    return next(reversed(_ranked(finite, best_by)), None)


def ranked_steps(directory: Any, best_by: BestBy, steps: Sequence[int]) -> list[int]:
    """Returns the ``steps`` that have a value, from the worst to the best; values that are not finite are worst."""
    values = read_metrics(directory, best_by.metric)
    return _ranked({step: values[step] for step in steps if step in values}, best_by)


def _ranked(values: Mapping[int, float], best_by: BestBy) -> list[int]:
    # If two steps have the same value, the later one is better, because it was trained on more data.
    return sorted(values, key=lambda step: (_worth(values[step], best_by), step))


def _worth(value: float, best_by: BestBy) -> float:
    if not math.isfinite(value):
        return -math.inf
    return value if best_by.mode == "max" else -value


class Metric(NamedTuple):
    """The parts of the name of a metric; ``task`` is empty for ``train``."""

    kind: str
    task: str
    name: str


def split_metric(name: str) -> Metric:
    """Returns the parts of the name of a metric.

    Raises:
      SettingError: there is no such kind of metric.
    """
    kind, _, rest = name.partition("/")
    task, _, metric = ("", "", rest) if kind == "train" else rest.partition("/")
    if kind not in ("train", "training_eval", "inference_eval") or not metric:
        raise SettingError(
            "metric_name_to_monitor",
            expected="train/METRIC, training_eval/TASK/METRIC or inference_eval/TASK/METRIC",
            found=repr(name),
            fix="bind for example metric_name_to_monitor = 'inference_eval/fsa_atsa_rest14/f1'",
        )
    return Metric(kind, task, metric)


def read_row(line: bytes) -> dict[str, Any] | None:
    """Returns a row of a metrics file; None if the line is damaged, or incomplete because the run was killed."""
    try:
        row = json.loads(line.decode())
    except (ValueError, RecursionError):
        return None
    return row if isinstance(row, dict) and isinstance(row.get("step"), int) else None


def read_rows(file: Any) -> list[dict[str, Any]]:
    """Returns the rows of a metrics file, in the order in which they were written; empty if there is no file."""
    lines = file.read_bytes().splitlines() if file.exists() else []
    return [row for row in map(read_row, lines) if row is not None]


def metric_rows(directory: Any, kind: str, task: str) -> list[dict[str, Any]]:
    """Returns the rows of one kind of metrics, in the order in which they were written."""
    root = as_path(directory)
    file = {
        "train": root / "train" / METRICS,
        "training_eval": root / "training_eval" / task / METRICS,
        "inference_eval": root / "inference_eval" / f"{task}-{METRICS}",
    }[kind]
    return read_rows(file)


def scores_of(checkpoint: Path, directory: Path | None = None) -> dict[str, dict[str, float]]:
    """Returns the metrics of decoded text at the step of a checkpoint, by task and name.

    Args:
      checkpoint: path of the checkpoint.
      directory: MODEL_DIR of the run, or EVAL_OUTPUT_DIR of ``t5x.eval``; by default the folder of the checkpoint.
    """
    run, step = directory or checkpoint.parent, checkpoint_files.step_of(checkpoint)
    tasks = sorted(file.name.removesuffix(f"-{METRICS}") for file in (run / "inference_eval").glob(f"*-{METRICS}"))
    return {
        task: {key: float(value) for key, value in row.items() if key != "step" and isinstance(value, int | float)}
        for task in tasks
        for row in metric_rows(run, "inference_eval", task)
        if row["step"] == step
    }


def read_metrics(directory: Any, name: str) -> dict[int, float]:
    """Returns the values of a metric by step; if a step was evaluated several times, the last value.

    Args:
      directory: directory of the run.
      name: name of the metric, see :class:`BestBy`.

    Raises:
      SettingError: there is no such kind of metric, or there were evaluations but none has such a metric.
    """
    kind, task, metric = split_metric(name)
    rows = metric_rows(directory, kind, task)
    names = (metric, metric.removeprefix("eval/"))
    values = {row["step"]: _number(row[key]) for row in rows for key in reversed(names) if key in row}
    if rows and not values:
        raise SettingError(
            "metric_name_to_monitor",
            expected=f"a metric of {kind}: {', '.join(key for key in rows[-1] if key != 'step')}",
            found=repr(metric),
            fix="bind one of these names",
        )
    return values


def _number(value: Any) -> float:
    try:
        return float(value)
    except (TypeError, ValueError, OverflowError):
        return math.nan


def record_best_by(directory: Any, best_by: BestBy | None) -> None:
    """Writes BEST_BY, the criterion by which the run keeps the best checkpoints; None removes an earlier one."""
    file = as_path(directory) / BEST_BY
    if best_by is None:
        file.unlink(missing_ok=True)
        return
    text = json.dumps(dataclasses.asdict(best_by)) + "\n"
    if file.exists() and file.read_text() == text:
        return
    with replacing(file) as partial:
        partial.write_text(text)


def recorded_best_by(directory: Any) -> BestBy | None:
    """Returns the criterion by which the run keeps the best checkpoints; None if it keeps the newest.

    It is read from BEST_BY. For runs of upstream T5X and of older versions it is read from config.gin, which is only
    parsed and not executed.

    Raises:
      SettingError: BEST_BY is damaged, or config.gin has several metrics.
    """
    file = as_path(directory) / BEST_BY
    if not file.exists():
        return _configured_best_by(as_path(directory) / run_config.CONFIG)
    try:
        content = untrusted_json.parse(file.read_bytes())
        return BestBy(str(content["metric"]), content["mode"])
    except (untrusted_json.UntrustedJsonError, KeyError, TypeError) as error:
        raise SettingError(
            file, expected='{"metric": …, "mode": …}', found=str(error), fix="write it again, or give a checkpoint"
        ) from error


def _require_best_by(directory: str | Path) -> BestBy:
    best_by = recorded_best_by(directory)
    if best_by is None:
        raise SettingError(
            directory,
            expected=f"a run that keeps the best checkpoint by a metric, in {BEST_BY} or config.gin",
            found="none",
            fix=f"use the newest, {directory}@newest, or give a checkpoint; in gin, @runs.newest_checkpoint(), or "
            "runs.best_checkpoint.metric = 'inference_eval/TASK/f1'",
        )
    return best_by


def _configured_best_by(file: Any) -> BestBy | None:
    """The metric that checkpoint managers in a config.gin monitor."""
    config = run_config.read_config(file)
    metrics = {value for value in config.values("metric_name_to_monitor") if isinstance(value, str)}
    if len(metrics) > 1:
        raise SettingError(
            file,
            expected="one metric_name_to_monitor",
            found=", ".join(sorted(metrics)),
            fix="in gin, bind runs.best_checkpoint.metric = 'inference_eval/TASK/f1', or give a checkpoint",
        )
    mode = next((value for value in config.values("metric_mode") if isinstance(value, str)), "max")
    return BestBy(metrics.pop(), mode) if metrics else None
