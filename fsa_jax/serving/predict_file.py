"""Predicts for a whole file. Predictions are written in chunks, and a stopped run can be resumed."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from fsa_base import untrusted_json
from fsa_base.errors import CheckpointError, SettingError
from fsa_jax.common.atomic_directory import unfinished_settings, written_aside
from fsa_jax.serving.inputs import Row
from fsa_jax.serving.predictor import Predictor

COMMAND = "fsa predict"
CHUNK = 2048
"""Number of reviews that are sorted by length and written together."""


@dataclass(frozen=True)
class Outcome:
    """Counts of a prediction run."""

    predicted: int
    resumed: int
    """Number of predictions that an earlier, stopped run had written."""
    cut: int
    """Number of reviews that were too long and were cut."""
    empty: int
    """Number of predictions of ``atsa``, ``acsa`` or ``analysis`` without any opinion."""


def predict_file(
    predictor: Predictor,
    rows: Iterator[Row],
    output: Path,
    *,
    settings: dict[str, Any],
    inputs: Sequence[Path] = (),
    batch_size: int = 32,
    total: int | None = None,
    overwrite: bool = False,
) -> Outcome:
    """Writes a prediction for every row to ``output`` (JSONL), in the order of the rows.

    Chunks are written when they are finished. The same call after a stop continues after the last complete chunk, and
    the output is identical, byte by byte, to that of an uninterrupted call. The file gets its final name at the end.

    Args:
      predictor: predictor with the student.
      rows: all rows of the input, from the start.
      output: output file. It must not exist; with ``overwrite`` it may have earlier predictions.
      settings: settings besides ``predictor.identity`` that determine the predictions: the input.
      inputs: input files, which must not be overwritten by ``output``.
      batch_size: number of reviews that are decoded together.
      total: number of rows, for the progress display.
      overwrite: whether to replace a finished output, or an unfinished one of another model or other settings.

    Raises:
      SettingError: ``output`` exists, or there is an unfinished output of another model, input or other settings.
    """
    from tqdm import tqdm

    _refuse_earlier_versions(output)
    counts: Counter[str] = Counter()
    with (
        written_aside(
            output,
            command=COMMAND,
            settings=predictor.identity | settings,
            foreign=_foreign,
            inputs=inputs,
            overwrite=overwrite,
            directory=False,
            resume=True,
        ) as part,
        open(part, "r+b" if part.exists() else "w+b") as stream,
        tqdm(total=total, unit="reviews", smoothing=0.05) as progress,
    ):
        done = _resume(stream, rows, output, counts)
        progress.update(done)
        while chunk := list(islice(rows, CHUNK)):
            lines: dict[int, str] = {}
            texts, ids = [row.text for row in chunk], [row.id for row in chunk]
            for batch in predictor.batches(texts, ids, batch_size):
                for place, prediction in batch:
                    lines[place] = prediction.model_dump_json()
                    counts["predicted"] += 1
                    counts["cut"] += prediction.cut
                    counts["empty"] += not (prediction.aspects or prediction.opinions)
                progress.update(len(batch))
            stream.write("".join(lines[i] + "\n" for i in range(len(chunk))).encode())
            stream.flush()
            os.fsync(stream.fileno())
    empty = counts["empty"] if predictor.task != "rewriting" else 0
    return Outcome(counts["predicted"], done, counts["cut"], empty)


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


def _parsed(line: bytes) -> dict[str, Any] | None:
    """A line of predictions; None if it is damaged or not a prediction."""
    try:
        found = untrusted_json.parse(line)
    except untrusted_json.UntrustedJsonError:
        return None
    whole = isinstance(found, dict) and {"id", "generated", "cut", "aspects", "opinions"} <= found.keys()
    return found if whole else None


def _resume(stream: Any, rows: Iterator[Row], output: Path, counts: Counter[str]) -> int:
    """Skips the ``rows`` that ``stream`` already has in complete chunks, and removes the rest of ``stream``.

    The rounding of a score depends on the other rows of its batch, so a chunk must be predicted as a whole.

    Returns:
      The number of skipped rows.
    """
    done, end, chunk = 0, 0, list[dict[str, Any]]()
    while (line := stream.readline()).endswith(b"\n") and (found := _parsed(line)) is not None:
        chunk.append(found)
        if len(chunk) < CHUNK:
            continue
        for found, row in zip(chunk, [*islice(rows, CHUNK), *[None] * CHUNK], strict=False):
            if row is None or found["id"] != row.id:
                raise SettingError(
                    output,
                    expected="unfinished predictions of this input",
                    found=f"{found['id']!r} where the input has {row.id if row else 'no more rows'!r}",
                    fix="start again: --overwrite",
                )
            counts["cut"] += bool(found["cut"])
            counts["empty"] += not (found["aspects"] or found["opinions"])
        done, end, chunk = done + CHUNK, stream.tell(), []
    stream.seek(end)
    stream.truncate()
    return done
