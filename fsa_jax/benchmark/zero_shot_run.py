"""Runs a zero-shot evaluation: students by tasks, with every prediction stored."""

from __future__ import annotations

import dataclasses
import json
import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal, get_args

import fsa_jax
from fsa_base import checksums
from fsa_base.errors import MissingDataError, SettingError, require_choice
from fsa_jax.benchmark.zero_shot import NEUTRAL_INPUTS, Example, Kind, ZeroShot, examples_of
from fsa_jax.benchmark.zero_shot_students import NamedStudent, choose_forms
from fsa_jax.benchmark.zero_shot_tables import (
    PREDICTIONS,
    Runs,
    Tables,
    difference_lines,
    domain_lines,
    read_runs,
    score_lines,
    tables,
)
from fsa_jax.benchmark.zero_shot_teacher import ZeroShotTeacher
from fsa_jax.common.atomic_directory import only_files, written_aside
from fsa_jax.common.markdown import escaped
from fsa_jax.common.paths import shown
from fsa_jax.data import benchmark_files
from fsa_jax.evaluation.polarity_predictions import Decision, read_predictions, write_predictions
from fsa_jax.text.polarity_forms import FormName

Split = Literal["test", "original", "hard", "dev", "train"]
SPLITS: tuple[Split, ...] = get_args(Split)
_FILES: dict[Split, tuple[str, ...]] = {
    "test": ("test", "hard_test"),
    "original": ("test",),
    "hard": ("hard_test",),
    "dev": ("dev",),
    "train": ("train",),
}
RESULTS = "results.json"
TABLE = "zero_shot.md"
FOREIGN = only_files(RESULTS, TABLE, f"{PREDICTIONS}/*.jsonl", marks=[RESULTS])


@dataclass(frozen=True)
class Task:
    """A dataset to score.

    Attributes:
      name: such as ``atsa/rest14``.
      examples: its examples.
      left_out: number of labels that were left out, by reason.
      files: the files that were read.
    """

    name: str
    examples: tuple[Example, ...]
    left_out: Counter[str]
    files: tuple[Path, ...]


def load_task(given: str, split: Split, data: Path) -> Task:
    """Reads the examples of a dataset.

    Args:
      given: ``atsa/rest14``, ``rest14``, or a file in the format of docs/data.md, whose folders say whether its targets
        (below ``atsa``, and anywhere else) or its categories (below ``acsa``) are asked about.
      split: test (original and hard), original, hard, dev or train; not used for a file.
      data: data directory.

    Raises:
      SettingError: there is no such dataset.
      DataError: its files cannot be read, or have no usable label.
    """
    require_choice("--split", split, SPLITS, "--split {choice}")
    file = Path(given)
    if file.is_file():
        name, files = "/".join(file.with_suffix("").parts[-3:]), [file]
        kind: Kind = "acsa" if file.parent.parent.name == "acsa" else "atsa"
    else:
        name = _dataset(given, data)
        folder = data / "fsa" / name
        files = [folder / f"{part}.json" for part in _FILES[split]]
        if split == "test" and name not in benchmark_files.RELEASED and not files[1].exists():
            files = files[:1]  # Labels of one's own need no hard sentences.
        kind = "acsa" if name.startswith("acsa/") else "atsa"
    sentences = [sentence for one in files for sentence in benchmark_files.load(one)]
    examples, left_out = examples_of(sentences, kind, name)
    return Task(name, tuple(examples), left_out, tuple(files))


def _dataset(given: str, data: Path) -> str:
    folders = sorted(path for kind in ("atsa", "acsa") for path in (data / "fsa" / kind).glob("*") if path.is_dir())
    known = ["/".join(folder.parts[-2:]) for folder in folders]
    if not known:
        raise MissingDataError(
            data / "fsa",
            expected="labelled sentences",
            found="none",
            fix="--data DIR, or set FSA_DATA_DIR (docs/data.md)",
        )
    name = given.removeprefix("fsa_").replace("atsa_", "atsa/", 1).replace("acsa_", "acsa/", 1)
    chosen = [one for one in known if name in (one, one.partition("/")[2])]
    if len(chosen) != 1:
        raise SettingError(
            f"--task {given}",
            expected=f"a dataset in {shown(data)}: {', '.join(known)}; or a .json file",
            found="several of this name: " + ", ".join(chosen) if chosen else "none of this name",
            fix=f"--task {(chosen or known)[0]}",
        )
    return chosen[0]


@dataclass(frozen=True)
class Evaluation:
    """The result of a run of the evaluation."""

    tables: Tables
    runs: Runs


def evaluate(
    students: Sequence[NamedStudent | ZeroShotTeacher],
    tasks: Sequence[Task],
    output: Path | None = None,
    *,
    forms: Sequence[FormName] | None = None,
    decision: Decision = "calibrated",
    overwrite: bool = False,
    say: Callable[[str], None] = lambda line: None,
) -> Evaluation:
    """Scores all students on all tasks, and writes the predictions and the tables.

    If it was stopped, the same call continues it: the predictions of a student for a task are written when complete,
    and are not computed again.

    Args:
      students: the students and teachers; their names are different.
      tasks: the datasets; their names are different.
      output: folder to write; None to write nothing.
      forms: forms of the question; by default all that a student was taught.
      decision: how answers are computed from probabilities.
      overwrite: whether to replace an earlier output.
      say: receives a line for each student and task.

    Raises:
      SettingError: two students or tasks have the same name, or the output cannot be written.
    """
    _require_names("students", [file_name(student.name) for student in students], "NAME=WHERE gives one another name")
    _require_names("--task", [task.name for task in tasks], "name each task once")
    chosen = {
        student.name: choose_forms(student, tuple(forms) if forms else None)
        for student in students
        if isinstance(student, NamedStudent)
    }
    settings = {
        "students": {student.name: student.identity for student in students},
        "tasks": {task.name: [checksums.file_digest(file) for file in task.files] for task in tasks},
        "forms": {name: list(some) for name, some in chosen.items()},
        "neutral inputs": list(NEUTRAL_INPUTS),
        "decision": decision,
        "fsa_jax": fsa_jax.__version__,
    }
    inputs = [file for task in tasks for file in task.files]
    with _folder(output, settings, inputs, overwrite) as folder:
        (folder / PREDICTIONS).mkdir(exist_ok=True)
        runs = {}
        for student in students:
            scorer = None
            for task in tasks:
                path = folder / PREDICTIONS / f"{file_name(student.name)}--{task.name.replace('/', '-')}.jsonl"
                if path.is_file():
                    say(f"{student.name}, {task.name}: {len(task.examples)} predictions were made before")
                else:
                    cut = ""
                    if isinstance(student, ZeroShotTeacher):
                        predictions = student.predict(task.examples, task.name)
                    else:
                        scorer = scorer or ZeroShot(student.student, chosen[student.name])
                        before = scorer.cut
                        predictions = scorer.predict(task.examples, student.name, task.name)
                        cut = f", {scorer.cut - before} inputs were cut" if scorer.cut > before else ""
                    partial = path.with_suffix(".partial")
                    write_predictions(partial, predictions)
                    partial.replace(path)
                    say(f"{student.name}, {task.name}: {len(predictions)} predictions{cut}")
                # What was written is read again, so that the tables are those of the files.
                runs[student.name, task.name] = read_predictions(path)
        found = tables(runs, decision)
        _write(folder, found, tasks, settings)
    return Evaluation(found, runs)


def file_name(student: str) -> str:
    """The name of a student, or of a teacher such as ``org/model``, in the name of a file."""
    return re.sub(r"[^\w.-]+", "-", student, flags=re.ASCII)


@contextmanager
def _folder(output: Path | None, settings: dict[str, Any], inputs: Sequence[Path], overwrite: bool) -> Iterator[Path]:
    if output is None:
        with TemporaryDirectory() as name:
            yield Path(name)
        return
    with written_aside(
        output,
        command="fsa zero-shot",
        settings=settings,
        foreign=FOREIGN,
        inputs=inputs,
        overwrite=overwrite,
        resume=True,
    ) as folder:
        yield folder


def recompute(output: Path) -> Tables:
    """The tables of an output folder, computed again from its predictions by the decision of its results.json.

    Raises:
      DataError: a file is missing or damaged.
    """
    file = output / RESULTS
    if not file.is_file():
        raise MissingDataError(file, expected="results of fsa zero-shot", found="nothing", fix="correct the path")
    decision = json.loads(file.read_text(encoding="utf-8"))["settings"]["decision"]
    runs = read_runs(output)
    order = list(json.loads(file.read_text(encoding="utf-8"))["runs"])
    return tables({tuple(key): runs[tuple(key)] for key in order}, decision)


def _write(folder: Path, found: Tables, tasks: Sequence[Task], settings: dict[str, Any]) -> None:
    runs = list(dict.fromkeys((row.student, row.task) for row in found.scores))
    content = {
        "settings": settings,
        "runs": runs,
        "left out": {task.name: dict(task.left_out) for task in tasks},
        **dataclasses.asdict(found),
    }
    (folder / RESULTS).write_text(f"{json.dumps(content, indent=1)}\n", encoding="utf-8")
    parts = [score_lines(found), difference_lines(found), domain_lines(found)]
    text = "\n".join(_markdown(lines) for lines in parts if lines)
    (folder / TABLE).write_text(text, encoding="utf-8")


def _markdown(lines: Sequence[Sequence[str]]) -> str:
    heading, *rows = ([escaped(cell) for cell in line] for line in lines)
    return "".join(f"| {' | '.join(line)} |\n" for line in (heading, ["---"] * len(heading), *rows))


def _require_names(setting: str, names: Sequence[str], fix: str) -> None:
    repeated = [name for name, count in Counter(names).items() if count > 1]
    if repeated:
        raise SettingError(setting, expected="different names", found=f"{', '.join(repeated)} twice", fix=fix)
