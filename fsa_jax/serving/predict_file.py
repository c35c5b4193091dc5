"""Predicts for a whole file. Predictions are written in chunks, and a stopped run can be resumed."""

from __future__ import annotations

import math
import os
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO

from pydantic import ValidationError
from tqdm import tqdm

from fsa_base import untrusted_json
from fsa_base.errors import CheckpointError, SettingError
from fsa_jax.common.atomic_directory import require_place, unfinished_settings, written_aside
from fsa_jax.serving.inputs import STANDARD, Row
from fsa_jax.serving.prediction_record import PAIR_TASKS, Prediction, Task
from fsa_jax.serving.prediction_tables import TABLES, converter, is_table
from fsa_jax.serving.predictor import Predictor

COMMAND = "fsa predict"
OTHER_FORMATS = frozenset(
    (".arrow", ".bz2", ".feather", ".gz", ".ods", ".pq", ".tsv", ".txt", ".xls", ".xlsx", ".xz", ".zip", ".zst")
)
"""Suffixes of formats that are not written. A file with such a name must not have JSON lines."""
CHUNK = 2048
"""Number of reviews that are sorted by length and written together."""
_LOG_SECONDS = 30
"""Time between two lines of progress, and before the first one, where standard error is not a terminal."""


@dataclass(frozen=True)
class Outcome:
    """Counts of a prediction run. All but the first include predictions that an earlier, stopped run had written."""

    predicted: int
    resumed: int
    """Number of predictions that an earlier, stopped run had written."""
    cut: int
    """Number of reviews that were too long and were cut."""
    empty: int
    """Number of predictions of ``atsa``, ``acsa`` or ``analysis`` without any opinion, although the review has text."""
    without_text: int
    """Number of reviews without text."""
    left_out: int
    """Number of aspects that are less probable than ``min_score``."""
    unreadable: str
    """The beginning of one output, quoted, if outputs of a pair task have text but none has an opinion; else empty."""


class _Counts(Counter[str]):
    """Counts, and an output of a pair task that is not blank."""

    example = ""


def predict_file(
    predictor: Predictor,
    rows: Iterator[Row],
    output: Path,
    *,
    settings: dict[str, Any],
    inputs: Sequence[Path] = (),
    batch_size: int = 32,
    total: int | None = None,
    min_score: float = 0.0,
    overwrite: bool = False,
) -> Outcome:
    """Writes a prediction for every row to ``output``, in the order of the rows: CSV, Parquet or JSON lines.

    JSON lines are written in chunks, and converted at the end if the suffix of ``output`` is ``.csv`` or ``.parquet``.
    The same call after a stop continues after the last complete chunk, and the output is identical, byte by byte, to
    that of an uninterrupted call. The file gets its final name at the end.

    Args:
      predictor: predictor with the student.
      rows: all rows of the input, from the start.
      output: output file. It must not exist; with ``overwrite`` it may have earlier predictions. ``-`` is standard
        output, to which JSON lines are written chunk by chunk; this cannot be continued after a stop.
      settings: settings besides ``predictor.identity`` and ``min_score`` that determine the predictions: the input.
      inputs: input files, which must not be overwritten by ``output``.
      batch_size: number of reviews that are decoded together.
      total: number of rows, for the progress display.
      min_score: aspects with a smaller probability, exp(log_probability), are left out and counted; 0 to 1.
      overwrite: whether to replace a finished output, or an unfinished one of another model or other settings.

    Raises:
      SettingError: ``output`` exists or has the suffix of another format, there is an unfinished output of another
        model, input or other settings, or ``min_score`` cannot be used.
    """
    require_min_score(min_score, predictor.task)
    require_output(output, inputs, overwrite)
    counts = _Counts()
    if output == STANDARD:
        for lines in _chunks(predictor, rows, counts, batch_size, min_score, total, 0):
            sys.stdout.buffer.write(lines)
            sys.stdout.flush()
        return _outcome(counts, 0)
    with (
        written_aside(
            output,
            command=COMMAND,
            settings={**predictor.identity, "min_score": min_score, **settings},
            foreign=_foreign,
            inputs=inputs,
            overwrite=overwrite,
            directory=False,
            resume=True,
            convert=converter(output, predictor.task) if output.suffix.lower() in TABLES else None,
        ) as part,
        open(part, "r+b" if part.exists() else "w+b") as stream,
    ):
        done = _resume(stream, rows, output, predictor.task, counts)
        for lines in _chunks(predictor, rows, counts, batch_size, min_score, total, done):
            stream.write(lines)
            stream.flush()
            os.fsync(stream.fileno())
    return _outcome(counts, done)


def require_output(output: Path, inputs: Sequence[Path], overwrite: bool) -> None:
    """Checks an output before the input is read and the model is loaded. Nothing is written.

    Args:
      output: output file, or ``-``.
      inputs: input files, which must not be overwritten by ``output``.
      overwrite: whether earlier predictions may be replaced.

    Raises:
      SettingError: ``output`` exists or has the suffix of another format, or there is an unfinished output of an
        earlier version.
    """
    if output == STANDARD:
        return
    if output.suffix.lower() in OTHER_FORMATS:
        raise SettingError(
            output,
            expected=f"a name that ends in {' or '.join(TABLES)}, or in .jsonl for JSON lines",
            found=output.suffix,
            fix="choose another output",
        )
    require_place(output, foreign=_foreign, inputs=inputs, overwrite=overwrite, directory=False)
    _refuse_earlier_versions(output)


def require_min_score(min_score: float, task: Task | None) -> None:
    """Checks the smallest probability of an aspect. The task is None if it is not known yet.

    Raises:
      SettingError: it is not a number from 0 to 1, or the task has no aspects.
    """
    if not 0 <= min_score <= 1:
        raise SettingError(
            "--min-score",
            expected="a probability, 0 to 1 (the exponential of an aspect's log_probability)",
            found=f"{min_score:g}",
            fix="--min-score 0.5",
        )
    if min_score and task is not None and task not in PAIR_TASKS:
        raise SettingError(
            "--min-score",
            expected=f"--task {' or '.join(PAIR_TASKS)}, whose aspects have a probability",
            found=f"--task {task}",
            fix="omit it",
        )


def _chunks(
    predictor: Predictor,
    rows: Iterator[Row],
    counts: _Counts,
    batch_size: int,
    min_score: float,
    total: int | None,
    done: int,
) -> Iterator[bytes]:
    """The lines of the predictions of every chunk of rows."""
    terminal = sys.stderr.isatty()
    waiting = 0.2 if terminal else _LOG_SECONDS
    with tqdm(
        total=total,
        initial=done,
        unit=" reviews",
        smoothing=0.05,
        mininterval=waiting,
        delay=0 if terminal else waiting,
        ascii=None if terminal else True,
    ) as progress:
        while chunk := list(islice(rows, CHUNK)):
            lines: dict[int, str] = {}
            texts, ids = [row.text for row in chunk], [row.id for row in chunk]
            for batch in predictor.batches(texts, ids, batch_size):
                for place, prediction in batch:
                    prediction = _likely(prediction, min_score)
                    lines[place] = prediction.model_dump_json()
                    counts["predicted"] += 1
                    _count(counts, prediction, predictor.task)
                progress.update(len(batch))
            yield "".join(lines[i] + "\n" for i in range(len(chunk))).encode()


def _likely(prediction: Prediction, min_score: float) -> Prediction:
    """The prediction without aspects that are less probable; the written, rounded logarithm decides."""
    kept = [
        aspect
        for aspect in prediction.aspects
        if aspect.log_probability is None or math.exp(aspect.log_probability) >= min_score
    ]
    return prediction.model_copy(update={"aspects": tuple(kept)})


def _count(counts: _Counts, prediction: Prediction, task: Task) -> None:
    counts["cut"] += prediction.cut
    counts["without text"] += prediction.error is not None
    if task != "rewriting" and prediction.error is None:
        counts["empty"] += not (prediction.aspects or prediction.opinions)
    if task in PAIR_TASKS:
        pairs = PAIR_TASKS[task].decode(prediction.generated, prediction.text)
        counts["pairs"] += len(pairs)
        counts.example = counts.example or prediction.generated.strip()
        counts["left out"] += len(pairs) - len(prediction.aspects)


def _outcome(counts: _Counts, done: int) -> Outcome:
    kinds = ("cut", "empty", "without text", "left out")
    unreadable = repr(counts.example[:100]) if counts.example and not counts["pairs"] else ""
    return Outcome(counts["predicted"], done, *(counts[kind] for kind in kinds), unreadable=unreadable)


def unfinished_model(output: Path, given: str) -> Path | None:
    """The checkpoint with which an unfinished output was started; None if there is none for the given model.

    If a MODEL_DIR has a newer checkpoint now, or a repository on the Hub a newer commit, the predictions still continue
    with the one they were started with.

    Raises:
      CheckpointError: the checkpoint no longer exists.
    """
    settings = unfinished_settings(output, COMMAND)
    if settings is None or settings.get("model as given") != given or not isinstance(settings.get("model"), str):
        return None
    model = Path(settings["model"])
    if not model.is_dir() and not settings["model"].startswith("hf://"):
        raise CheckpointError(
            model,
            expected=f"the model of the unfinished predictions in {output}",
            found="nothing",
            fix="start again with another model: --overwrite",
        )
    return model


def _foreign(output: Path) -> str | None:
    if not output.is_file():
        return "a folder"
    if output.suffix.lower() in TABLES:
        return None if is_table(output) else "another file"
    with open(output, "rb") as stream:
        line = stream.readline()
    return "another file" if line and _parsed(line) is None else None


def _refuse_earlier_versions(output: Path) -> None:
    part = output.with_name(output.name + ".part")
    note = output.with_name(output.name + ".part.json")
    if part.is_file() and note.is_file():
        raise SettingError(
            part,
            expected="no unfinished predictions of an earlier version, which did not record their checkpoint",
            found="some",
            fix=f"start again: rm {part} {note}",
        )


def _parsed(line: bytes) -> Prediction | None:
    """A line of predictions; None if it is damaged or not a prediction."""
    try:
        return Prediction.model_validate(untrusted_json.parse(line))
    except (untrusted_json.UntrustedJsonError, ValidationError):
        return None


def _resume(stream: BinaryIO, rows: Iterator[Row], output: Path, task: Task, counts: _Counts) -> int:
    """Skips the ``rows`` that ``stream`` already has in complete chunks, and removes the rest of ``stream``.

    The rounding of a score depends on the other rows of its batch, so a chunk must be predicted as a whole.

    Returns:
      The number of skipped rows.
    """
    done, end, chunk = 0, 0, list[Prediction]()
    while (line := stream.readline()).endswith(b"\n") and (found := _parsed(line)) is not None:
        chunk.append(found)
        if len(chunk) < CHUNK:
            continue
        for found, row in zip(chunk, [*islice(rows, CHUNK), *[None] * CHUNK], strict=False):
            if row is None or found.id != row.id:
                raise SettingError(
                    output,
                    expected="unfinished predictions of this input",
                    found=f"{found.id!r} where the input has {row.id if row else 'no more rows'!r}",
                    fix="start again: --overwrite",
                )
            _count(counts, found, task)
        done, end, chunk = done + CHUNK, stream.tell(), []
    stream.seek(end)
    stream.truncate()
    return done
