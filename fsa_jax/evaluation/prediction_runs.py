"""Stored runs of a benchmark: the predictions of one fine-tuned student for every test sentence, from which each number
of each table can be computed again.

The output folder of ``fsa benchmark`` has one folder for each run::

    OUT/runs/STUDENT/atsa/rest14/share-1/lr-0.0003/seed-42/run.json
    OUT/runs/STUDENT/atsa/rest14/share-1/lr-0.0003/seed-42/predictions.jsonl

A run that only took part in the search for a learning rate has no predictions. A run that ended with an error has its
message in ``run.json``.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TypeVar

from pydantic import ConfigDict, Field, ValidationError

from fsa_base import untrusted_json
from fsa_base.disk import replacing
from fsa_base.errors import DataError, MissingDataError
from fsa_jax.common.records import Record

RUNS = "runs"
RUN_FILE = "run.json"
PREDICTIONS_FILE = "predictions.jsonl"

_Kind = TypeVar("_Kind", bound=Record)

Tuple = tuple[str, ...]
"""A pair (term, polarity) or (category, polarity), or a longer tuple of another codec."""


class SentencePrediction(Record):
    """The prediction of one student for one test sentence."""

    id: str
    text: str
    gold: tuple[Tuple, ...]
    """The gold tuples, each once."""
    predicted: tuple[Tuple, ...]
    """The predicted tuples, with duplicates."""
    generated: str
    """The text that the student wrote."""
    subsets: tuple[str, ...]
    """The subsets of the test set to which the sentence belongs; ``all`` is always one of them."""


class RunKey(Record):
    """What distinguishes a run within a benchmark."""

    student: str
    task: str
    """The dataset, such as ``atsa/rest14``."""
    share: float = Field(default=1.0, gt=0, le=1)
    """Share of the training sentences."""
    learning_rate: float = Field(gt=0)
    """Peak learning rate."""
    seed: int

    @property
    def folder(self) -> Path:
        """The run's folder, relative to the output folder of the benchmark."""
        settings = (f"share-{self.share:g}", f"lr-{self.learning_rate:g}", f"seed-{self.seed}")
        return Path(RUNS, self.student, self.task, *settings)


class RunRecord(RunKey):
    """The content of ``run.json``."""

    # The losses of a training that diverged are no numbers; pydantic would write them as null.
    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="strings")

    error: str | None = None
    """Why the run did not end; None if it did."""
    epochs: int = 0
    validation_f1: tuple[float, ...] = ()
    """F1 on the validation sentences after each epoch, in percent."""
    losses: tuple[float, ...] = ()
    """Training loss per target token of every step."""
    best_epoch: int | None = None
    """The epoch (from 1) whose student made the predictions: the last of those with the best validation F1."""
    training_sentences: int = 0
    seconds: float = 0.0
    """Training and validation, summed over all starts; of a run in a group, its share of the group's time."""
    together: tuple[int, ...] = ()
    """The seeds that were trained together with this one, itself included."""
    device: str = ""


class ScoredRun(Record):
    """A run with its predictions, in the order of the test set."""

    run: RunRecord
    predictions: tuple[SentencePrediction, ...]

    def of_subset(self, subset: str) -> list[SentencePrediction]:
        """The predictions for the sentences of a subset."""
        return [prediction for prediction in self.predictions if subset in prediction.subsets]


def write_predictions(path: Path, predictions: Iterable[SentencePrediction]) -> None:
    """Writes predictions as JSON lines; the file appears complete or not at all."""
    with replacing(path) as partial:
        partial.write_text("".join(f"{prediction.model_dump_json()}\n" for prediction in predictions), encoding="utf-8")


def read_predictions(path: Path) -> tuple[SentencePrediction, ...]:
    """Reads predictions that :func:`write_predictions` wrote.

    Raises:
      MissingDataError: there is no such file.
      DataError: a line is not a prediction, a sentence is there twice, or there is none.
    """
    if not path.is_file():
        raise MissingDataError(path, expected="predictions of fsa benchmark", found="nothing", fix="correct the path")
    found: dict[str, SentencePrediction] = {}
    with path.open(encoding="utf-8") as lines:
        for number, line in _numbered(lines, path):
            prediction = _record(SentencePrediction, line, f"{path}:{number}")
            if prediction.id in found:
                raise DataError(
                    f"{path}:{number}",
                    expected="every sentence once",
                    found=f"{prediction.id!r} a second time",
                    fix="delete the file and start fsa benchmark again",
                )
            found[prediction.id] = prediction
    if not found:
        raise DataError(
            path,
            expected="at least one prediction",
            found="an empty file",
            fix="delete it and start fsa benchmark again",
        )
    return tuple(found.values())


def read_run(folder: Path) -> RunRecord:
    """Reads the ``run.json`` of a run's folder."""
    path = folder / RUN_FILE
    if not path.is_file():
        raise MissingDataError(path, expected="a run of fsa benchmark", found="nothing", fix="correct the path")
    return _record(RunRecord, path.read_bytes(), str(path))


def read_scored_run(folder: Path) -> ScoredRun:
    """Reads a run with its predictions."""
    return ScoredRun(run=read_run(folder), predictions=read_predictions(folder / PREDICTIONS_FILE))


def scored_folders(output: Path) -> list[Path]:
    """The folders of all runs with predictions in the output folder of a benchmark, sorted."""
    return sorted(file.parent for file in (output / RUNS).rglob(PREDICTIONS_FILE))


def _numbered(lines: Iterable[str], path: Path) -> Iterator[tuple[int, str]]:
    try:
        yield from ((number, line) for number, line in enumerate(lines, 1) if line.strip())
    except UnicodeDecodeError as error:
        raise DataError(path, expected="UTF-8 text", found=str(error), fix="delete it and start again") from error


def _record(kind: type[_Kind], text: str | bytes, place: str) -> _Kind:
    fix = "delete the run's folder and start fsa benchmark again"
    try:
        return kind.model_validate(untrusted_json.parse(text))
    except ValidationError as error:
        first = error.errors()[0]
        found = f"{'.'.join(map(str, first['loc']))}: {first['msg']}"
        raise DataError(place, expected=f"a {kind.__name__}", found=found, fix=fix) from None
    except (json.JSONDecodeError, ValueError) as error:
        raise DataError(place, expected="JSON", found=str(error)[:200], fix=fix) from None
