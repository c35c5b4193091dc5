"""The students of a benchmark: what each starts from, and the recipe that fine-tunes it."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fsa_base import checksums, run_config
from fsa_base.errors import MissingDataError, SettingError
from fsa_jax.common.gin_contents import contents_digest, with_includes
from fsa_jax.common.paths import STUDENT_VARIABLE, shown
from fsa_jax.tokenizers.t5 import ROW_PADDING, VOCABULARY_VARIABLE, T5Tokenizer, configured_vocabulary
from fsa_jax.training import recipes, starting_point
from fsa_jax.training.eval_command import network_of
from fsa_jax.weights import t5
from fsa_jax.weights.hf_files import read_config

SCRATCH = "scratch:"
_OPTION = "--student"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.+-]*")
_CHAT_RECIPE = "gin/finetune_chat.gin"
_RECIPE = "gin/shared/finetune.gin"


@dataclass(frozen=True)
class Student:
    """A student before fine-tuning.

    Attributes:
      name: its name in tables and paths.
      where: what the user gave: a checkpoint, a run, a model, or ``scratch:`` and a gin file.
      gin_files: model file and recipe.
      bindings: gin bindings of its network and vocabulary.
      environment: environment variables of its vocabulary or tokenizer.
      checkpoint: the weights to start from; None for random ones.
      chat: whether it is decoder-only.
    """

    name: str
    where: str
    gin_files: tuple[str, ...]
    bindings: Mapping[str, Any] = field(default_factory=dict)
    environment: Mapping[str, str] = field(default_factory=dict)
    checkpoint: Path | None = None
    chat: bool = False

    @property
    def vocabulary(self) -> Path | None:
        """SentencePiece model of a T5; None for a decoder-only student."""
        path = self.environment.get(VOCABULARY_VARIABLE)
        return Path(path) if path else None

    @property
    def base(self) -> Path | None:
        """The imported model of a decoder-only student; None for a T5."""
        path = self.environment.get(STUDENT_VARIABLE)
        return Path(path) if path else None

    def identity(self) -> dict[str, Any]:
        """What determines its weights, network and vocabulary, as JSON values."""
        return {
            "gin_files": {name: contents_digest(name) for name in self.gin_files},
            "bindings": dict(self.bindings),
            "weights": None if self.checkpoint is None else checksums.digest(self.checkpoint),
            "vocabulary": None if self.vocabulary is None else checksums.file_digest(self.vocabulary),
        }

    def learning_rate(self) -> float:
        """The peak learning rate of its recipe."""
        found = None
        for name in self.gin_files:
            # A file binds after those that it includes.
            for file in reversed(with_includes(name).values()):
                value = run_config.read_config(file).macro("LEARNING_RATE")
                found = float(value) if isinstance(value, int | float) else found
        if found is None:
            raise SettingError(
                "LEARNING_RATE",
                expected=f"a number in {' or '.join(self.gin_files)}",
                found="none",
                fix="--learning-rate 3e-4",
            )
        return found


def read_students(words: list[str], vocabulary: Path | None = None) -> list[Student]:
    """Finds the students that the user gave as ``NAME=WHERE``.

    Args:
      words: the words of the option; WHERE alone gets its last part as name.
      vocabulary: SentencePiece model of T5 students that have none of their own.

    Raises:
      FsaError: a word is not of this form, a name is given twice, or a student cannot be found.
    """
    students = [_student(*_split(word), vocabulary) for word in words]
    names = [student.name for student in students]
    for name in names:
        if names.count(name) > 1:
            raise SettingError(
                _OPTION, expected="different names", found=f"{name} twice", fix=f"{_OPTION} another-name=WHERE"
            )
    return students


def _split(word: str) -> tuple[str, str]:
    name, equals, where = word.partition("=")
    if not equals:
        where = name
        name = Path(where.removeprefix(SCRATCH)).stem if where.startswith(SCRATCH) else Path(where.split("@")[0]).name
    if not _NAME.fullmatch(name) or not where:
        raise SettingError(
            f"{_OPTION} {word}",
            expected="NAME=WHERE, with a name of letters, digits and any of _ . + -",
            found=repr(name),
            fix=f"{_OPTION} distilled=runs/distilled@newest",
        )
    return name, where


def _student(name: str, where: str, vocabulary: Path | None) -> Student:
    if where.startswith(SCRATCH):
        model = where.removeprefix(SCRATCH)
        with_includes(model)
        bindings, environment = _t5_vocabulary(vocabulary)
        return Student(name, where, (model, _RECIPE), bindings, environment)
    start = starting_point.find(where, f"{_OPTION} {name}=")
    if start.size == recipes.CHAT:
        if STUDENT_VARIABLE not in start.environment:
            raise SettingError(
                f"{_OPTION} {name}={where}",
                expected="a decoder-only student whose imported model is known",
                found=f"a run without {starting_point.run_record.RECORD}",
                fix="start its training with fsa train --from IMPORTED",
            )
        return Student(name, where, (_CHAT_RECIPE,), {}, start.environment, start.checkpoint, chat=True)
    model, network = network_of(_network(start.checkpoint))
    own = start.environment.get(VOCABULARY_VARIABLE)
    bindings, environment = _t5_vocabulary(Path(own) if own else vocabulary)
    return Student(
        name,
        where,
        (f"gin/models/{model}.gin", _RECIPE),
        {**network, **bindings},
        environment,
        start.checkpoint,
    )


def _network(checkpoint: Path) -> dict[str, Any]:
    """The settings of ``T5Config`` of a run or an imported model."""
    directory = checkpoint.parent
    found = run_config.read_config(directory / run_config.CONFIG).arguments("T5Config")
    if found:
        return found
    imported = directory / "hf"
    if (imported / "config.json").is_file():
        return dataclasses.asdict(t5.config_from_hf(read_config(imported)))
    raise SettingError(
        f"{_OPTION} {shown(checkpoint)}",
        expected=f"a checkpoint of a run, with {run_config.CONFIG} beside it, or an output of fsa import-hf",
        found="a checkpoint alone",
        fix="give the run's MODEL_DIR, or copy its config.gin there",
    )


def _t5_vocabulary(vocabulary: Path | None) -> tuple[dict[str, Any], dict[str, str]]:
    """The bindings and environment variables of a SentencePiece model."""
    found = vocabulary or configured_vocabulary()
    if found is None:
        raise MissingDataError(
            "--vocabulary",
            expected="the SentencePiece model of the T5 students",
            found=f"none, and {VOCABULARY_VARIABLE} is not set",
            fix="--vocabulary spiece.model",
        )
    rows = -(-T5Tokenizer(found).size // ROW_PADDING) * ROW_PADDING
    return {"VOCABULARY_ROWS": rows}, {VOCABULARY_VARIABLE: str(found.absolute())}
