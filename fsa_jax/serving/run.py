"""Predictions of a whole file, written as they come, taken up again where they stopped."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from fsa_jax.errors import SettingError
from fsa_jax.serving.inputs import Row
from fsa_jax.serving.predictor import Predictor

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
    batch_size: int = 32,
    total: int | None = None,
) -> Outcome:
    """Writes a prediction for every row to ``output`` (JSONL), in the order of the rows.

    Chunks are written to ``output.part`` as they are done; the same call after a stop goes on there. When all are
    written the file gets its name.

    Args:
      predictor: of the student.
      rows: of the input, from its beginning.
      output: a file that does not exist.
      settings: what decides the predictions; a part of a run with other settings is refused.
      batch_size: reviews decoded together.
      total: rows, for the progress line.

    Raises:
      SettingError: ``output`` exists, or ``output.part`` is of another run.
    """
    from tqdm import tqdm

    if output.exists():
        raise SettingError(
            output, expected="a file that is not there yet", found="one", fix="remove it, or choose another output"
        )
    part, note = output.with_name(output.name + ".part"), output.with_name(output.name + ".part.json")
    fingerprint = hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()
    _check_note(part, note, fingerprint, settings)
    counts = {"predicted": 0, "cut": 0, "empty": 0}
    with (
        open(part, "r+b" if part.exists() else "w+b") as stream,
        tqdm(total=total, unit="reviews", smoothing=0.05) as progress,
    ):
        done = _resume(stream, rows, part)
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
    part.rename(output)
    note.unlink()
    empty = counts["empty"] if predictor.task != "rewriting" else 0
    return Outcome(counts["predicted"], done, counts["cut"], empty)


def _check_note(part: Path, note: Path, fingerprint: str, settings: dict[str, Any]) -> None:
    """Whether ``part`` is of these settings; where there is none, notes them for the one that begins."""
    if not part.exists() or not note.exists():
        note.parent.mkdir(parents=True, exist_ok=True)
        part.unlink(missing_ok=True)
        note.write_text(json.dumps({"fingerprint": fingerprint, "settings": settings}, indent=2, sort_keys=True) + "\n")
        return
    noted = json.loads(note.read_text())
    if noted.get("fingerprint") != fingerprint:
        old = noted.get("settings", {})
        changed = [name for name in sorted({*settings, *old}) if settings.get(name) != old.get(name)]
        raise SettingError(
            part,
            expected="the part of a run with the same model, input and settings",
            found="another " + ", ".join(f"{name} ({old.get(name)!r}, now {settings.get(name)!r})" for name in changed),
            fix=f"remove {part} to begin again, or give the settings of that run",
        )


def _resume(stream: Any, rows: Iterator[Row], part: Path) -> int:
    """Reads ``rows`` past the whole predictions in ``stream``, cuts off half a line, and stands at its end."""
    done, end = 0, 0
    while (line := stream.readline()).endswith(b"\n"):
        row, name = next(rows, None), json.loads(line)["id"]
        if row is None or name != row.id:
            raise SettingError(
                part,
                expected="predictions of this input",
                found=f"{name!r} where the input has {row.id if row else 'no more rows'!r}",
                fix=f"remove {part} to begin again",
            )
        done, end = done + 1, end + len(line)
    stream.seek(end)
    stream.truncate()
    return done
