"""Reads the rows of a corpus from parts of ``fsa check``, or from files in the papers' released layout."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fsa_base.errors import DataError, SettingError
from fsa_jax.checking.assess import CheckedGeneration
from fsa_jax.checking.check_generations import is_store, released
from fsa_jax.checking.checked_files import as_row, parts, read_part
from fsa_jax.common.records import UNDERSTANDINGS
from fsa_jax.corpus.held_out import HELD_OUT_ROWS, Choice, HeldOut
from fsa_jax.reviews.dump_rows import expand
from fsa_jax.text.words import implicit_share

TEXTS = ("review_id", "review", "response", "domain", "understanding", "teacher", "teacher_revision", "prompt_hash")
TEXTS_OF_CHECK = ("sampling", "verdict", "repairs")
WHOLES = ("seed", "sample", "opinions")
NUMBERS = ("stars", "hallucination", "lean", "stars_gap", "partner_gap", "implicit_share")
"""Unknown values are NaN, because TFDS and TFRecord have no null."""


@dataclass(frozen=True)
class Selection:
    """Selects the rows of a check that become the corpus.

    Args:
      teachers: names of teachers to keep; empty keeps all.
      prompts: prompt hashes (or their beginnings) to keep; empty keeps all.
      domains: domains to keep; empty keeps all, including reviews of unknown domain.
      max_hallucination: rows with a higher hallucination score are left out; rows without a score stay.
      held_out: number of rows for the validation split, by default 500 as in the paper; never more than a tenth of all.
      seed: random seed; another seed holds out other reviews.
    """

    teachers: tuple[str, ...] = ()
    prompts: tuple[str, ...] = ()
    domains: tuple[str, ...] = ()
    max_hallucination: float = 1.0
    held_out: int = HELD_OUT_ROWS
    seed: int = 0

    def __post_init__(self):
        if not 0 <= self.max_hallucination <= 1:
            raise SettingError(
                "max_hallucination", expected="0 to 1", found=str(self.max_hallucination), fix="choose another value"
            )
        if self.held_out < 0:
            raise SettingError("held_out", expected="0 or more", found=str(self.held_out), fix="choose another value")

    def refuse(self, row: dict[str, Any]) -> str | None:
        """Why a row is left out; None if it is kept."""
        if self.teachers and row["teacher"] not in self.teachers:
            return "teacher not selected"
        if self.prompts and not row["prompt_hash"].startswith(self.prompts):
            return "prompt not selected"
        if self.domains and row["domain"] not in self.domains:
            return "domain not selected"
        if row["hallucination"] > self.max_hallucination:
            return "hallucination above the limit"
        return None


def files(source: Path) -> list[Path]:
    """The files of a source: parts of a check's ``kept`` folder, or released files.

    Raises:
      MissingDataError: there is no such file or folder.
      DataError: the folder has no such files, or is a store of ``fsa teach``, which is not checked yet.
    """
    if is_store(source):
        raise DataError(
            source,
            expected="the output of fsa check",
            found="a store of fsa teach",
            fix="run fsa check first: fsa check STORE checked --reviews REVIEWS, then fsa corpus checked DATA_DIR",
        )
    if (source / "kept").is_dir():
        return parts(source / "kept")
    if source.is_dir() and any(source.glob("part-*.parquet")):
        return parts(source)
    return expand(source, "the output of fsa check")


def check_of(source: Path) -> Path | None:
    """The output folder of ``fsa check`` that a source belongs to; None if it belongs to none.

    Args:
      source: the output folder itself, its ``kept`` folder, a part in it, or something else.
    """
    if (source / "kept").is_dir():
        return source
    folder = (source.parent if source.is_file() else source).absolute()
    return folder.parent if folder.name == "kept" and any(folder.glob("part-*.parquet")) else None


def rows(file: Path, skipped: Counter[str] | None = None) -> Iterator[dict[str, Any]]:
    """Rows of one file with the columns TEXTS, TEXTS_OF_CHECK, WHOLES and NUMBERS; no value is None.

    A file in the released layout has not been checked, so its rows have no scores except ``implicit_share``. Rows
    without a review or without teacher text are counted in ``skipped``.
    """
    skipped = Counter() if skipped is None else skipped
    if file.suffix == ".parquet":
        for number, row in enumerate(read_part(file)):
            wrong = _impossible(row)
            if wrong is not None:
                raise DataError(
                    f"{file}, row {number}", expected="a row of fsa check", found=wrong, fix="run fsa check again"
                )
            yield _filled({**row, "repairs": ", ".join(filter(None, row["repairs"] or ()))})
        return
    for review, generation in released(file, skipped):
        if not (generation.text or "").strip():
            skipped["teacher answered nothing"] += 1
            continue
        unchecked = CheckedGeneration(
            review=review,
            generation=generation,
            verdict="keep",
            response=(generation.text or "").strip(),
            implicit_share=implicit_share(review.text),
        )
        yield _filled({**as_row(unchecked), "verdict": "unchecked", "repairs": ""})


def _impossible(row: dict[str, Any]) -> str | None:
    """A description of a value that no check can write (damaged bytes without a checksum); None if all are possible."""
    if row["understanding"] not in UNDERSTANDINGS:
        return f"the form {row['understanding']!r}"
    if row["implicit_share"] is None:
        return "no implicit_share"
    for name, least, most in (
        ("hallucination", 0, 1),
        ("implicit_share", 0, 1),
        ("lean", -1, 1),
        ("stars_gap", 0, 1),
        ("partner_gap", 0, 1),
        ("stars", 0, 5),
    ):
        if row[name] is not None and not least <= row[name] <= most:
            return f"{name} {row[name]}"
    return None


def _filled(row: dict[str, Any]) -> dict[str, Any]:
    return {
        **{name: row[name] or "" for name in (*TEXTS, *TEXTS_OF_CHECK)},
        **{name: row[name] or 0 for name in WHOLES},
        **{name: math.nan if row[name] is None else float(row[name]) for name in NUMBERS},
    }


def selected(
    file: Path, selection: Selection, understanding: str | None = None, losses: Counter[str] | None = None
) -> Iterator[tuple[str, dict[str, Any]]]:
    """Selected rows of a file, each with a key that is unique in the source.

    Args:
      file: one of :func:`files`.
      selection: selection of rows.
      understanding: form to keep; None keeps both.
      losses: counter of left-out rows by reason.
    """
    losses = Counter() if losses is None else losses
    for number, row in enumerate(rows(file, losses)):
        reason = selection.refuse(row)
        if reason is not None:
            losses[reason] += 1
        elif understanding is None or row["understanding"] == understanding:
            yield f"{file.name}:{number}", row


def held_out(source_files: list[Path], selection: Selection) -> HeldOut:
    """Chooses the held-out reviews among the selected rows with the rule of ``fsa_jax.corpus.held_out``.

    Raises:
      DataError: no row is selected.
    """
    choice = Choice(selection.held_out, selection.seed)
    for file in source_files:
        for _, row in selected(file, selection):
            choice.add(row["review"], row["understanding"])
    if not choice.total:
        raise DataError(
            ", ".join(map(str, source_files[:3])),
            expected="at least one selected row",
            found="none",
            fix="select more rows",
        )
    return choice.made()
