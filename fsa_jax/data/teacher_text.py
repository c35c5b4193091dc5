"""Reads teacher text in the released layout, ``$FSA_DATA_DIR/teacher/*.jsonl``, and chooses the held-out reviews.

Each line is a JSON object with the keys ``ID``, ``Text`` and ``<teacher>_response`` (``Overall``, the stars, is not
needed for training), in UTF-8 with or without a byte-order mark. Imports no TensorFlow.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import logging
import os
import zlib
from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fsa_base import untrusted_json
from fsa_base.errors import DataError, MissingDataError, SettingError
from fsa_jax.common.paths import data_dir
from fsa_jax.common.records import UNDERSTANDINGS, Understanding
from fsa_jax.corpus.held_out import HELD_OUT_ROWS, Choice, HeldOut
from fsa_jax.data.benchmark_files import RELEASE
from fsa_jax.text.analysis import is_analysis

HELD_OUT_VARIABLE = "FSA_HELD_OUT"
HELD_OUT_SEED_VARIABLE = "FSA_HELD_OUT_SEED"

_FILE_BITS = 40
"""The number of a row is the number of its file, shifted by this many bits, plus its line."""


@dataclass(frozen=True)
class TeacherRow:
    """A review and one teacher text about it. ``number`` grows with the file and the line."""

    number: int
    review_id: str
    review: str
    response: str
    understanding: Understanding
    offset: int
    """Byte offset of its line in the file."""


@dataclass(frozen=True)
class Index:
    """The places of all rows.

    Attributes:
      held_out: the held-out reviews.
      numbers: numbers of the rows in the order of the files, int64, by split and form.
      offsets: byte offsets of their lines, by split and form.
      fingerprints: hashes that distinguish these rows from other rows, by split and form.
    """

    held_out: HeldOut
    numbers: dict[tuple[str, Understanding], np.ndarray]
    offsets: dict[tuple[str, Understanding], np.ndarray]
    fingerprints: dict[tuple[str, Understanding], str]


def files() -> list[Path]:
    """The files of teacher text, sorted by name.

    Raises:
      MissingDataError: there is no such file.
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
    """Rows of one file. Rows with a blank response are left out, and their number is logged.

    Raises:
      DataError: a line is not a JSON object or lacks a key, or the file has no row. The error names file and line.
    """
    blank = rows = offset = 0
    with path.open("rb") as lines:
        for number, line in enumerate(lines, start=1):
            if line.removeprefix(_BYTE_ORDER_MARK).strip():
                rows += 1
                row = _row(path, line, (file_number << _FILE_BITS) + number, offset)
                if row.response.strip():
                    yield row
                else:
                    blank += 1
            offset += len(line)
    if not rows:
        raise DataError(path, expected="at least one row", found="an empty file", fix="remove it")
    if blank:
        logging.getLogger(__name__).warning("%s: %d of %d rows have no teacher text", path, blank, rows)


def read_at(paths: Sequence[Path], numbers: Sequence[int], offsets: Sequence[int]) -> list[TeacherRow]:
    """Rows by their numbers and the byte offsets of their lines; every file is opened once.

    Raises:
      DataError: a row is no longer there, because the file was changed.
    """
    rows = []
    with contextlib.ExitStack() as stack:
        opened: dict[Path, Any] = {}
        for number, offset in zip(numbers, offsets, strict=True):
            path = paths[number >> _FILE_BITS]
            if path not in opened:
                opened[path] = stack.enter_context(path.open("rb"))
            opened[path].seek(offset)
            rows.append(_row(path, opened[path].readline(), number, offset))
    return rows


_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_FIX = "run fsa check on the file: it reports the unreadable rows and writes the others"


def _row(path: Path, line: bytes, number: int, offset: int) -> TeacherRow:
    where = f"{path}:{number % (1 << _FILE_BITS)}"
    try:
        row: Any = untrusted_json.parse(line)
    except untrusted_json.UntrustedJsonError as error:
        expected = "UTF-8 text" if "UTF-8" in error.reason else "a JSON object"
        raise DataError(where, expected=expected, found=str(error), fix=_FIX) from error
    if not isinstance(row, dict):
        raise DataError(where, expected="a JSON object", found=type(row).__name__, fix=_FIX)
    responses = [key for key in row if key.endswith("_response")]
    if len(responses) != 1 or not {"ID", "Text"} <= row.keys():
        raise DataError(
            where, expected="the keys ID, Text and one TEACHER_response", found=", ".join(map(str, row)), fix=_FIX
        )
    review, response = row["Text"], row[responses[0]]
    if not isinstance(review, str) or not isinstance(response, str | None):
        raise DataError(where, expected="text under Text and TEACHER_response", found="something else", fix=_FIX)
    response = response or ""
    return TeacherRow(
        number=number,
        review_id=str(row["ID"]),
        review=review,
        response=response,
        understanding="analysis" if is_analysis(response) else "rewriting",
        offset=offset,
    )


def index(paths: Sequence[Path]) -> Index:
    """Finds every row and chooses the held-out reviews, in one pass. The result is cached until the files change.

    The number of held-out rows is ``$FSA_HELD_OUT`` (default 500) or a tenth of all, whichever is less. The rule is
    that of ``fsa_jax.corpus.held_out``, with the random seed ``$FSA_HELD_OUT_SEED`` (default 0).
    """
    states = tuple((str(path), path.stat().st_size, path.stat().st_mtime_ns) for path in paths)
    return _index(states, _setting(HELD_OUT_VARIABLE, HELD_OUT_ROWS), _setting(HELD_OUT_SEED_VARIABLE, 0))


@functools.lru_cache(maxsize=2)
def _index(states: tuple[tuple[str, int, int], ...], limit: int, seed: int) -> Index:
    choice = Choice(limit, seed)
    # Arrays of machine numbers need 32 bytes per row, so that millions of rows fit into memory.
    numbers, offsets, forms, hashes, texts = array("q"), array("q"), array("b"), array("Q"), array("I")
    for file_number, (path, _, _) in enumerate(states):
        for row in read(Path(path), file_number):
            numbers.append(row.number)
            offsets.append(row.offset)
            forms.append(UNDERSTANDINGS.index(row.understanding))
            hashes.append(choice.add(row.review, row.understanding))
            texts.append(zlib.crc32(row.response.encode(), zlib.crc32(row.review.encode())))
    held_out = choice.made()
    is_held_out = np.isin(np.asarray(hashes, np.uint64), np.array(sorted(held_out.reviews), np.uint64))
    of_form = np.asarray(forms, np.int8)
    columns = [np.asarray(column) for column in (numbers, texts)]
    found = Index(held_out, {}, {}, {})
    for place, form in enumerate(UNDERSTANDINGS):
        for split, side in (("train", ~is_held_out), ("validation", is_held_out)):
            chosen = (of_form == place) & side
            found.numbers[split, form] = np.asarray(numbers, np.int64)[chosen]
            found.offsets[split, form] = np.asarray(offsets, np.int64)[chosen]
            content = b"".join(column[chosen].tobytes() for column in columns)
            found.fingerprints[split, form] = hashlib.sha256(content).hexdigest()[:12]
    return found


def _setting(variable: str, default: int) -> int:
    value = os.environ.get(variable) or str(default)
    if not value.isascii() or not value.isdigit():
        raise SettingError(variable, expected="an integer, 0 or more", found=repr(value), fix=f"unset {variable}")
    return int(value)
