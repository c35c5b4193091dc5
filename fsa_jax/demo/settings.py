"""Sizes and file layout of the demo."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fsa_base.errors import SettingError
from fsa_jax.common.records import Record

ROWS_MULTIPLE = 128
"""The number of rows of a student's embedding is padded to a multiple of this."""

_NOT_PIECES = 101
"""Number of embedding rows that are not SentencePieces: extra ids and the newline token."""


class DemoSettings(Record):
    """Sizes of what the demo generates, trains and compares. All of them influence the results of its stages."""

    reviews: int = 20_000
    labelled_sentences: int = 300
    dev_sentences: int = 200
    test_sentences: int = 500
    mistake_rate: float = 0.05
    hallucination_rate: float = 0.05
    vocabulary_rows: int = 1536
    distillation_steps: int = 1000
    finetuning_steps: int = 400
    learning_rates: tuple[float, ...] = (3e-3, 1e-2, 3e-2, 1e-1)
    seeds: tuple[int, ...] = (42, 52, 62)
    world_seed: int = 0

    @property
    def pieces(self) -> int:
        """Number of SentencePieces in the student's vocabulary."""
        return self.vocabulary_rows - _NOT_PIECES

    def check(self) -> DemoSettings:
        """Checks the sizes; returns self.

        Raises:
          SettingError: a size does not allow training or comparison.
        """
        least = {"reviews": 100, "vocabulary_rows": 512}
        counts = [name for name, value in self if isinstance(value, int) and name != "world_seed"]
        for name in counts:
            value = getattr(self, name)
            if value < least.get(name, 1):
                raise _unusable(name, f"{least.get(name, 1)} or more", value)
        for name in ("mistake_rate", "hallucination_rate"):
            if not 0 <= getattr(self, name) <= 1:
                raise _unusable(name, "a probability, 0 to 1", getattr(self, name))
        if self.vocabulary_rows % ROWS_MULTIPLE:
            raise _unusable("vocabulary_rows", f"a multiple of {ROWS_MULTIPLE}", self.vocabulary_rows)
        if not self.learning_rates or min(self.learning_rates) <= 0:
            raise _unusable("learning_rates", "one or more positive numbers", self.learning_rates)
        for name in ("seeds", "learning_rates"):
            values = getattr(self, name)
            if not values or len(set(values)) < len(values):
                raise _unusable(name, "one or more different numbers", values)
        return self


def _unusable(name: str, expected: str, found: Any) -> SettingError:
    option = f"--{name.replace('_', '-')}"
    return SettingError(option, expected=expected, found=repr(found), fix=f"set {option}, see fsa demo --help")


class Layout:
    """The paths of the demo's files in its folder."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.data = root / "data"
        self.vocabulary = root / "vocabulary" / "spiece.model"
        self.distilled = root / "distilled"
        self.results = root / "results.json"
        self.report = root / "report.html"
        self.stages = root / ".stages"

    def finetuned(self, arm: str, rate: float, seed: int) -> Path:
        """MODEL_DIR of one fine-tuning run."""
        return self.root / "finetuned" / arm / f"lr{rate:g}-seed{seed}"

    def tested(self, arm: str, rate: float, seed: int) -> Path:
        """Scores and predictions of one fine-tuned student on the test sentences."""
        return self.root / "tested" / arm / f"lr{rate:g}-seed{seed}"
