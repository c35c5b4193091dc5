"""Predictions of a whole file, written as they come, taken up again where they stopped."""

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
"""Reviews sorted by length together, and written together."""


@dataclass(frozen=True)
class Outcome:
    """Counts of a run."""

    predicted: int
    resumed: int
    """Predictions that an earlier, stopped run had written."""
    cut: int
    """Reviews that were longer than the student's input."""
    empty: int
    """Predictions of ``atsa``, ``acsa`` or ``analysis`` without any opinion."""


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

    Chunks are written as they are done; the same call after a stop goes on after the last whole one, so that the output
    is that of a call that was not stopped, byte for byte. When all are written the file gets its name.

    Args:
      predictor: of the student.
      rows: of the input, from its beginning.
      output: a file that does not exist, or with ``overwrite`` earlier predictions.
      settings: what decides the predictions besides ``predictor.identity``: the input.
      inputs: files that ``output`` may not be.
      batch_size: reviews decoded together.
      total: rows, for the progress line.
      overwrite: replace a finished output, and begin again where another model or other settings left one unfinished.

    Raises:
      SettingError: ``output`` exists, or an unfinished output of another model, input or other settings does.
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
    """The checkpoint that an unfinished output is of; None where there is none for the model that is given.

    A MODEL_DIR may have got a newer checkpoint since: predictions go on with the one that they began with.

    Raises:
      CheckpointError: it is no longer there.
    """
    settings = unfinished_settings(output, COMMAND)
    if settings is None or settings.get("model as given") != given or not isinstance(settings.get("model"), str):
        return None
    model = Path(settings["model"])
    if not model.is_dir():
        raise CheckpointError(
            model,
            expected=f"the model that the unfinished predictions of {output} are of",
            found="nothing",
            fix="begin again with another model: --overwrite",
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
            expected="no unfinished predictions of an earlier version, which did not say of which checkpoint they are",
            found="some",
            fix=f"begin again: rm {part} {note}",
        )


def _parsed(line: bytes) -> dict[str, Any] | None:
    """A line of predictions, None where it is damaged or none."""
    try:
        found = untrusted_json.parse(line)
    except untrusted_json.UntrustedJsonError:
        return None
    whole = isinstance(found, dict) and {"id", "generated", "cut", "aspects", "opinions"} <= found.keys()
    return found if whole else None


def _resume(stream: Any, rows: Iterator[Row], output: Path, counts: Counter[str]) -> int:
    """Reads ``rows`` past the whole chunks in ``stream``, cuts off what follows them, and stands at its end.

    What a row's score is rounded to depends on the rows in its batch: a chunk is predicted whole or not at all.
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
                    fix="begin again: --overwrite",
                )
            counts["cut"] += bool(found["cut"])
            counts["empty"] += not (found["aspects"] or found["opinions"])
        done, end, chunk = done + CHUNK, stream.tell(), []
    stream.seek(end)
    stream.truncate()
    return done
