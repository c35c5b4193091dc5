"""Teacher text in the released layout, ``$FSA_DATA_DIR/teacher/*.jsonl``: streamed, some reviews held out.

One JSON object a line, with the keys ``ID``, ``Text`` and ``<teacher>_response`` (``Overall``, the stars, is not needed
to train), UTF-8 with or without a byte-order mark. Imports no TensorFlow.
"""

from __future__ import annotations

import functools
import heapq
import json
import logging
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fsa_jax.data.fsa import RELEASE
from fsa_jax.errors import DataError, MissingDataError, SettingError
from fsa_jax.paths import data_dir
from fsa_jax.records import UNDERSTANDINGS, Understanding
from fsa_jax.sampling.bottom_k import hash64
from fsa_jax.text.analysis import is_analysis

HELD_OUT_VARIABLE = "FSA_HELD_OUT"
HELD_OUT_SEED_VARIABLE = "FSA_HELD_OUT_SEED"
HELD_OUT_ROWS = 500
"""Rows held out at most, as in the paper; and never more than a tenth of all."""


@dataclass(frozen=True)
class TeacherRow:
    """A review and one teacher text about it; ``number`` grows through the files in their order."""

    number: int
    review_id: str
    review: str
    response: str
    understanding: Understanding


@dataclass(frozen=True)
class HeldOut:
    """Which reviews are held out, and how many rows each split has of each form of text."""

    reviews: frozenset[int]
    seed: int
    rows: dict[tuple[str, str], int]
    """By split and form."""

    def split_of(self, review_id: str) -> str:
        """``train`` or ``validation``; a review never stands in both."""
        return "validation" if hash64(review_id, self.seed) in self.reviews else "train"


def files() -> list[Path]:
    """The corpus files, by name.

    Raises:
      MissingDataError: there is none.
    """
    directory = data_dir() / "teacher"
    found = sorted(directory.glob("*.jsonl"))
    if not found:
        raise MissingDataError(
            directory,
            expected="teacher text, at least one .jsonl file in the released layout",
            found="nothing" if not directory.is_dir() else "no .jsonl file",
            fix=f"set FSA_DATA_DIR, or: git clone {RELEASE} && mkdir -p $FSA_DATA_DIR/teacher && cp "
            "FSA-Distillation/prompting/test/mixtral/test_500_4m8d.json $FSA_DATA_DIR/teacher/mixtral.jsonl",
        )
    return found


def read(path: Path, file_number: int = 0) -> Iterator[TeacherRow]:
    """Rows of one file; rows whose response is blank are left out, and their number is logged.

    Raises:
      DataError: a line is no JSON object, lacks a key, or the file holds no row; names the file and the line.
    """
    blank = rows = 0
    with path.open(encoding="utf-8-sig") as lines:
        number = 0
        try:
            for number, line in enumerate(lines, start=1):
                if not line.strip():
                    continue
                rows += 1
                row = _row(f"{path}:{number}", line, (file_number << 40) + number)
                if row.response.strip():
                    yield row
                else:
                    blank += 1
        except UnicodeDecodeError as error:
            raise DataError(f"{path}:{number + 1}", expected="UTF-8 text", found=str(error), fix=_MEND) from error
    if not rows:
        raise DataError(path, expected="at least one row", found="an empty file", fix="remove it")
    if blank:
        logging.getLogger(__name__).warning("%s: %d of %d rows have no teacher text", path, blank, rows)


_MEND = "fsa check reads what it can of such a file, says what it drops, and writes the rest"


def _row(where: str, line: str, number: int) -> TeacherRow:
    try:
        row: Any = json.loads(line)
    except json.JSONDecodeError as error:
        raise DataError(where, expected="a JSON object", found=error.msg, fix=_MEND) from error
    if not isinstance(row, dict):
        raise DataError(where, expected="a JSON object", found=type(row).__name__, fix=_MEND)
    responses = [key for key in row if key.endswith("_response")]
    if len(responses) != 1 or not {"ID", "Text"} <= row.keys():
        raise DataError(
            where, expected="the keys ID, Text and one TEACHER_response", found=", ".join(map(str, row)), fix=_MEND
        )
    review, response = row["Text"], row[responses[0]]
    if not isinstance(review, str) or not isinstance(response, str | None):
        raise DataError(where, expected="text under Text and TEACHER_response", found="something else", fix=_MEND)
    response = response or ""
    return TeacherRow(
        number=number,
        review_id=str(row["ID"]),
        review=review,
        response=response,
        understanding="analysis" if is_analysis(response) else "rewriting",
    )


def held_out(paths: Sequence[Path]) -> HeldOut:
    """Chooses the reviews to hold out, in one pass over the files that is remembered while they do not change.

    Reviews are taken by a seeded hash of their id, as many as fit into ``$FSA_HELD_OUT`` rows (500) or a tenth of all,
    whichever is less; ``$FSA_HELD_OUT_SEED`` (0) chooses others.
    """
    states = tuple((str(path), path.stat().st_size, path.stat().st_mtime_ns) for path in paths)
    return _held_out(states, _setting(HELD_OUT_VARIABLE, HELD_OUT_ROWS), _setting(HELD_OUT_SEED_VARIABLE, 0))


@functools.lru_cache(maxsize=4)
def _held_out(states: tuple[tuple[str, int, int], ...], limit: int, seed: int) -> HeldOut:
    totals: Counter[str] = Counter()
    # The limit + 1 reviews of lowest hash, and their rows by form. What once left the heap can never come back: the
    # reviews below it only grow in number. So the counts of those that stay are complete.
    counts: dict[int, Counter[str]] = {}
    highest: list[int] = []
    for path, _, _ in states:
        for row in read(Path(path)):
            totals[row.understanding] += 1
            hashed = hash64(row.review_id, seed)
            if hashed not in counts:
                if len(highest) > limit and hashed > -highest[0]:
                    continue
                counts[hashed] = Counter()
                heapq.heappush(highest, -hashed)
                if len(highest) > limit + 1:
                    del counts[-heapq.heappop(highest)]
            counts[hashed][row.understanding] += 1
    allowed = min(limit, totals.total() // 10)
    chosen: set[int] = set()
    held: Counter[str] = Counter()
    for hashed in sorted(counts):
        rows = counts[hashed]
        # The first of each form is taken even where it does not fit: validation without one form is of no use.
        first = allowed > 0 and any(not held[form] and totals[form] > rows[form] for form in rows)
        if first or held.total() + rows.total() <= allowed:
            chosen.add(hashed)
            held += rows
    by_split = {("validation", form): held[form] for form in UNDERSTANDINGS}
    by_split |= {("train", form): totals[form] - held[form] for form in UNDERSTANDINGS}
    return HeldOut(frozenset(chosen), seed, by_split)


def _setting(variable: str, default: int) -> int:
    value = os.environ.get(variable) or str(default)
    if not value.isascii() or not value.isdigit():
        raise SettingError(variable, expected="a whole number, 0 or more", found=repr(value), fix=f"unset {variable}")
    return int(value)
