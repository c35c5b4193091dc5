"""What `fsa compare` compares: the runs of students, found in outputs of ``fsa benchmark`` or given as files."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, NamedTuple

from pydantic import BaseModel

from fsa_base import untrusted_json
from fsa_base.errors import DataError, MissingDataError, SettingError
from fsa_jax.common.records import Record
from fsa_jax.evaluation.prediction_runs import (
    PREDICTIONS_FILE,
    RUN_FILE,
    RUNS,
    RunRecord,
    SentencePrediction,
    read_predictions,
    read_run,
)

SETTINGS_FILE = "benchmark.json"
"""What ``fsa benchmark`` was to run, in its output folder."""
NO_TASK = "predictions"
"""The task of prediction files whose folder has no ``run.json``."""


class Cell(NamedTuple):
    """What two students are compared on."""

    task: str
    share: float
    """Share of the training sentences."""


@dataclass(frozen=True)
class FinalRun:
    """A file of predictions."""

    path: Path
    seed: int | None
    """None if the file says nothing about it."""


class Gap(Record):
    """A run that is not there to be compared."""

    student: str
    task: str
    share: float
    seed: int
    kind: Literal["failed", "unfinished", "missing"]
    """"missing": the benchmark was to make it, or another student or task of the output has the seed; there is no
    ``run.json``."""
    why: str = ""


@dataclass
class Contestant:
    """A student with its final runs."""

    name: str
    source: str = ""
    """The output in which it was found."""
    runs: dict[Cell, list[FinalRun]] = field(default_factory=dict)
    gaps: list[Gap] = field(default_factory=list)


def find_contestants(arguments: Sequence[str]) -> list[Contestant]:
    """The students that the arguments name, at least two.

    An argument is ``OUT`` (an output of ``fsa benchmark``: each of its students), ``OUT:STUDENT`` (one of them), or
    ``FILE`` (a file of predictions: a student with one run). ``NAME=`` before it gives the student another name; all
    files with the same name are runs of one student.

    Raises:
      MissingDataError: there is no such file or folder, or it has no runs.
      DataError: a ``run.json`` is damaged, or a student has two final runs with the same task, share and seed.
      SettingError: a student is not in the output, a name is given twice, or there is only one student.
    """
    files: dict[str, list[Path]] = {}
    found: list[Contestant] = []
    for argument in arguments:
        name, where = _named(argument)
        path = Path(where)
        if path.is_file():
            files.setdefault(name or where, []).append(path)
        elif path.is_dir():
            students = _of_output(path)
            if name and len(students) > 1:
                known = ", ".join(student.name for student in students)
                fix = f"{name}={where}:{students[0].name}"
                raise SettingError(argument, expected="one student", found=f"{len(students)}: {known}", fix=fix)
            found += [_renamed(student, name or student.name) for student in students]
        else:
            found.append(_of_student(argument, name, where))
    found = _with_different_names(found + _of_files(files))
    if len(found) < 2:
        known = ", ".join(student.name for student in found)
        raise SettingError("fsa compare", expected="at least two students", found=known, fix="name another output")
    return found


def aligned(runs: Sequence[FinalRun]) -> list[list[SentencePrediction]]:
    """The predictions of runs on the same sentences, in the order of the first run.

    Raises:
      DataError: the runs do not have the same sentences, with the same texts, gold tuples and subsets.
    """
    first: dict[str, SentencePrediction] = {}
    result = []
    for run in runs:
        predictions = {prediction.id: prediction for prediction in read_predictions(run.path)}
        first = first or predictions
        only = sorted(first.keys() ^ predictions.keys())
        if only:
            having = runs[0].path if only[0] in first else run.path
            raise _other_sentences(
                run, runs[0], f"{len(only)} sentences in one of them, such as {only[0]!r} in {having}"
            )
        for sentence, prediction in predictions.items():
            for name, one, other in (
                ("text", first[sentence].text, prediction.text),
                ("gold tuples", sorted(first[sentence].gold), sorted(prediction.gold)),
                ("subsets", sorted(first[sentence].subsets), sorted(prediction.subsets)),
            ):
                if one != other:
                    raise _other_sentences(run, runs[0], f"other {name} of sentence {sentence!r}: {other} and {one}")
        result.append([predictions[sentence] for sentence in first])
    return result


def _other_sentences(run: FinalRun, first: FinalRun, found: str) -> DataError:
    fix = "compare runs on the same version of the labels: start fsa benchmark again for one of them"
    return DataError(run.path, expected=f"the sentences of {first.path}", found=found[:500], fix=fix)


def _named(argument: str) -> tuple[str, str]:
    # A path may contain "=" too.
    name, equals, where = argument.partition("=")
    return (name, where) if equals and name and not Path(argument).exists() and "/" not in name else ("", argument)


def _of_output(output: Path) -> list[Contestant]:
    """All students in an output of ``fsa benchmark``; of a run's folder, its student."""
    root = output / RUNS if (output / RUNS).is_dir() else output
    folders = sorted(file.parent for file in root.rglob(RUN_FILE))
    if not folders:
        fix = "name the output folder of fsa benchmark"
        raise MissingDataError(output, expected="runs of fsa benchmark", found="no run.json", fix=fix)
    planned = _planned(output)
    students = {name: Contestant(name, str(output)) for name in planned.students}
    unscored: list[RunRecord] = []
    cells: dict[tuple[Cell, int], dict[str, FinalRun]] = {key: {} for key in planned.runs()}
    for folder in folders:
        record = read_run(folder)
        students.setdefault(record.student, Contestant(record.student, str(output)))
        key = (Cell(record.task, record.share), record.seed)
        if not (folder / PREDICTIONS_FILE).is_file():
            unscored.append(record)
            cells.setdefault(key, {})
            continue
        run = FinalRun(folder / PREDICTIONS_FILE, record.seed)
        earlier = cells.setdefault(key, {}).setdefault(record.student, run)
        if earlier != run:
            raise DataError(
                run.path,
                expected="one final run of a student, task, share and seed",
                found=f"another in {earlier.path}",
                fix="name the two files instead of the folder, or delete one of the two runs",
            )
        students[record.student].runs.setdefault(key[0], []).append(run)
    for student in students.values():
        student.gaps += _gaps(student.name, cells, unscored)
        for runs in student.runs.values():
            runs.sort(key=lambda run: run.seed or 0)
    return list(students.values())


class _PlannedSettings(BaseModel):
    tasks: tuple[str, ...] = ()
    train_shares: tuple[float, ...] = ()
    seeds: tuple[int, ...] = ()


class _Plan(BaseModel):
    """The part of ``benchmark.json`` that is needed here; unknown fields are ignored."""

    identities: dict[str, object] = {}
    settings: _PlannedSettings = _PlannedSettings()

    @property
    def students(self) -> list[str]:
        return sorted(name.removeprefix("student ") for name in self.identities if name.startswith("student "))

    def runs(self) -> list[tuple[Cell, int]]:
        grid = itertools.product(self.settings.tasks, self.settings.train_shares, self.settings.seeds)
        return [(Cell(task, share), seed) for task, share, seed in grid]


def _planned(output: Path) -> _Plan:
    """What the benchmark was to run; nothing if the folder does not say it."""
    path = output / SETTINGS_FILE
    if not path.is_file():
        return _Plan()
    try:
        return _Plan.model_validate(untrusted_json.parse(path.read_bytes()))
    except ValueError as error:
        fix = "start fsa benchmark again"
        raise DataError(path, expected="the settings of a benchmark", found=str(error)[:300], fix=fix) from None


def _gaps(student: str, cells: dict[tuple[Cell, int], dict[str, FinalRun]], unscored: Sequence[RunRecord]) -> list[Gap]:
    gaps = []
    for (cell, seed), scored in sorted(cells.items(), key=lambda item: item[0]):
        if student in scored:
            # Its runs without predictions were part of the search for the learning rate.
            continue
        own = [r for r in unscored if (r.student, r.task, r.share, r.seed) == (student, *cell, seed)]
        errors = [record.error for record in own if record.error]
        kind: Literal["failed", "unfinished", "missing"] = "failed" if errors else "unfinished" if own else "missing"
        why = errors[0] if errors else ""
        gaps.append(Gap(student=student, task=cell.task, share=cell.share, seed=seed, kind=kind, why=why))
    return gaps


def _of_student(argument: str, name: str, where: str) -> Contestant:
    output, colon, student = where.rpartition(":")
    if not colon or not Path(output).is_dir():
        fix = "name an output folder of fsa benchmark, OUT:STUDENT, or a file of predictions"
        raise MissingDataError(output if colon else where, expected="a file or folder", found="nothing", fix=fix)
    students = {found.name: found for found in _of_output(Path(output))}
    if student not in students:
        known = ", ".join(students)
        raise SettingError(argument, expected=f"a student of {output}", found=repr(student), fix=f"one of {known}")
    return _renamed(students[student], name or student)


def _of_files(files: dict[str, list[Path]]) -> list[Contestant]:
    paths = [path for group in files.values() for path in group]
    # If one file does not say its task, the others must not either, or they would not be compared with it.
    records = {path: read_run(path.parent) for path in paths if _has_record(path)}
    with_records = len(records) == len(set(paths))
    found = []
    for name, group in files.items():
        student = Contestant(name)
        for path in group:
            record = records.get(path)
            cell = Cell(record.task, record.share) if record and with_records else Cell(NO_TASK, 1.0)
            student.runs.setdefault(cell, []).append(FinalRun(path, record.seed if record else None))
        twice = [str(path) for path, times in Counter(group).items() if times > 1]
        if twice:
            raise SettingError(name, expected="every file once", found=f"{twice[0]} twice", fix="leave one out")
        found.append(student)
    return found


def _has_record(path: Path) -> bool:
    return path.name == PREDICTIONS_FILE and (path.parent / RUN_FILE).is_file()


def _renamed(student: Contestant, name: str) -> Contestant:
    gaps = [gap.model_copy(update={"student": name}) for gap in student.gaps]
    return Contestant(name, student.source, student.runs, gaps)


def _with_different_names(found: Sequence[Contestant]) -> list[Contestant]:
    """Puts the output before the names of students that have the same name."""
    times = Counter(student.name for student in found)
    result = [
        _renamed(student, f"{student.source}:{student.name}") if times[student.name] > 1 else student
        for student in found
    ]
    for name, count in Counter(student.name for student in result).items():
        if count > 1:
            raise SettingError("fsa compare", expected="every student once", found=f"{name} twice", fix="leave one out")
    return result
