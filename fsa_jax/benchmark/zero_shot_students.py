"""The students of a zero-shot evaluation: from a run, an export, the Hub, or untrained."""

from __future__ import annotations

import dataclasses
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fsa_base import checksums, run_config
from fsa_base.errors import MissingDataError, SettingError
from fsa_base.networks.t5.network import T5Config
from fsa_jax.common import installed_files
from fsa_jax.common.paths import shown
from fsa_jax.serving.predictor import located
from fsa_jax.serving.student import Student, load_student, untrained_t5
from fsa_jax.text.polarity_forms import FORMS, FormName

SCRATCH = "scratch:"
UNTRAINED = "-untrained"
"""End of the name of the untrained student that another student is compared with."""
_ANALYSIS: tuple[FormName, ...] = ("analysis", "analysis-aspect")
_NAME = re.compile(r"[\w.-]+", re.ASCII)


@dataclass(frozen=True)
class NamedStudent:
    """A student of the evaluation.

    Attributes:
      name: name in tables and of the file with its predictions.
      student: the loaded student.
      forms: forms of the question that its training taught; all if its training is unknown.
      identity: what determines its weights, as JSON values.
      scratch: whether it is untrained.
    """

    name: str
    student: Student
    forms: tuple[FormName, ...]
    identity: dict[str, Any]
    scratch: bool = False

    def untrained(self, seed: int) -> NamedStudent:
        """An untrained student of the same size."""
        identity = {"untrained": self.identity, "seed": seed}
        name = f"{self.name}{UNTRAINED}"
        return NamedStudent(name, self.student.untrained(seed), self.forms, identity, scratch=True)


def split_name(given: str) -> tuple[str, str]:
    """The name and the place in ``NAME=WHERE``; without a name, the last part of the place.

    Example:
      >>> split_name("base=runs/reviews@best"), split_name("runs/reviews@newest")
      (('base', 'runs/reviews@best'), ('reviews', 'runs/reviews@newest'))
      >>> split_name("scratch:gin/models/t5_tiny.gin")
      ('scratch-t5_tiny', 'scratch:gin/models/t5_tiny.gin')
    """
    name, equals, where = given.partition("=")
    if equals and _NAME.fullmatch(name):
        return name, where
    place = given.removeprefix(SCRATCH).rstrip("/").removesuffix(".gin")
    last = re.sub(r"@(best|newest)$", "", place).rpartition("/")[2]
    name = re.sub(r"[^\w.-]+", "-", last, flags=re.ASCII).strip("-.") or "student"
    return (f"scratch-{name}" if given.startswith(SCRATCH) else name), given


def load_named(
    given: str,
    *,
    base: Path | None = None,
    vocabulary: Path | None = None,
    instruction: str = "",
    seed: int = 0,
) -> NamedStudent:
    """Loads a student.

    Args:
      given: ``NAME=WHERE`` or ``WHERE``: what ``fsa predict`` accepts as a JAX model, or ``scratch:`` and such a model
        or a file in gin/models/, for random weights of that size.
      base: see ``load_student``.
      vocabulary: see ``load_student``.
      instruction: see ``load_student``.
      seed: random seed of random weights.

    Raises:
      FsaError: there is no such student, or it was fine-tuned, so that it writes no teacher text.
    """
    name, where = split_name(given)
    if where.startswith(SCRATCH) and where.endswith(".gin"):
        config = _size(Path(where.removeprefix(SCRATCH)))
        student = untrained_t5(config, vocabulary=vocabulary, seed=seed)
        identity = {"scratch": {**dataclasses.asdict(config), "dtype": "float32"}, "seed": seed}
        return NamedStudent(name, student, FORMS, identity, scratch=True)
    path, on_hub = located(Path(where.removeprefix(SCRATCH)))
    forms = FORMS if where.startswith(SCRATCH) else _taught_forms(path)
    student = load_student(path, base=base, vocabulary=vocabulary, instruction=instruction)
    identity = {
        "model": str(student.path.resolve()),
        "model content": checksums.digest(student.path),
        "instruction": instruction,
        **on_hub,
    }
    if where.startswith(SCRATCH):
        identity = {"untrained": identity, "seed": seed}
        return NamedStudent(name, student.untrained(seed), forms, identity, scratch=True)
    return NamedStudent(name, student, forms, identity)


def _taught_forms(path: Path) -> tuple[FormName, ...]:
    """The forms that a run taught, by the task in its config.gin; all for a model without one."""
    file = next(
        (place / run_config.CONFIG for place in (path, path.parent) if (place / run_config.CONFIG).exists()), None
    )
    trained = run_config.read_config(file).macro("MIXTURE_OR_TASK_NAME") if file else None
    if trained is None:
        return FORMS
    name = str(trained.name if isinstance(trained, run_config.Reference) else trained).replace("chat_", "")
    if name.startswith(("fsa_rewriting", "fsa_corpus_rewriting")):
        return ("rewriting",)
    if name.startswith(("fsa_analysis", "fsa_corpus_analysis")):
        return _ANALYSIS
    if name.startswith(("fsa_distill", "fsa_corpus")) or name.endswith("corpus_task"):
        return FORMS
    raise SettingError(
        shown(path),
        expected="a distilled student, which writes analyses or rewritings",
        found=f"one that was trained for {name}",
        fix="give the MODEL_DIR of its distillation; fsa eval scores fine-tuned students",
    )


def choose_forms(student: NamedStudent, wanted: tuple[FormName, ...] | None) -> tuple[FormName, ...]:
    """The forms to ask a student in.

    Args:
      student: the student.
      wanted: the user's choice; None for all that the student was taught.

    Raises:
      SettingError: the student was not taught a wanted form.
    """
    for form in wanted or ():
        if form not in student.forms:
            text = "rewritings" if form == "rewriting" else "analyses"
            raise SettingError(
                f"--forms {form}",
                expected=f"a student that was distilled from {text}",
                found=f"{student.name}, which was distilled from others",
                fix=f"--forms {' '.join(student.forms)}",
            )
    return wanted or student.forms


def _size(file: Path) -> T5Config:
    """The configuration of a T5 in gin/models/, which is given as a path or as in a checkout."""
    places = (file, installed_files.root() / file)
    found = next((place for place in places if place.is_file()), None)
    if found is None:
        raise MissingDataError(file, expected="a file in gin/models/", found="nothing", fix="correct the path")
    own, common = run_config.read_config(found), run_config.read_config(installed_files.root() / "gin/models/t5.gin")
    arguments = {**common.arguments("T5Config"), **own.arguments("T5Config")}
    rows = own.macro("VOCABULARY_ROWS")
    if isinstance(rows, int):
        arguments["vocab_size"] = rows
    names = {field.name for field in dataclasses.fields(T5Config)} - {"dtype", "dropout_rate"}
    if not own.arguments("T5Config"):
        raise SettingError(
            file,
            expected="the size of a T5: bindings of network.T5Config",
            found="none",
            fix="for a decoder-only student give an imported model: scratch:DIR, the output folder of fsa import-hf",
        )
    return T5Config(**{name: value for name, value in arguments.items() if name in names and value is not None})
