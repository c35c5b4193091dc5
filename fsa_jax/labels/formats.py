"""Recognises the format of a file of labels by its content, and reads it."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from fsa_base import untrusted_json
from fsa_base.errors import DataError
from fsa_jax.common.paths import require_file, shown
from fsa_jax.labels import acos_lines, json_lines, pyabsa_lines, semeval_xml, tables, tuple_lines
from fsa_jax.labels.raw import MAX_FILE_BYTES, MAX_TEXT_CHARACTERS, Notes, RawSentence, UnusableLabels, lines_of

DOCS = "docs/labels.md"
_SHOWN = 300
_LOOKED_AT = 20
"""Number of lines by which the format is recognised."""


class Format(NamedTuple):
    """A format of labels.

    Attributes:
      title: its name in messages.
      read: reads the text of a file; of XML, which names its own encoding, the bytes.
    """

    title: str
    read: Callable[..., Iterator[RawSentence]]


FORMATS = {
    "jsonl": Format("JSON lines", json_lines.read),
    "table": Format("CSV", tables.read),
    "semeval": Format("SemEval XML", semeval_xml.read),
    "tuples": Format("sentence####[labels]", tuple_lines.read),
    "acos": Format("ACOS", acos_lines.read),
    "apc": Format("PyABSA .apc", pyabsa_lines.read_apc),
    "atepc": Format("PyABSA .atepc", pyabsa_lines.read_atepc),
}
_BY_SUFFIX = {
    ".jsonl": "jsonl",
    ".json": "jsonl",
    ".csv": "table",
    ".tsv": "table",
    ".xml": "semeval",
    ".apc": "apc",
    ".atepc": "atepc",
}


class LabelFile(NamedTuple):
    """The content of one file of labels.

    Attributes:
      format: key of FORMATS.
      sentences: its sentences, unchecked.
      notes: what was repaired while reading, counted.
    """

    format: str
    sentences: list[RawSentence]
    notes: dict[str, int]


def read_file(path: Path, lenient: bool = False) -> LabelFile:
    """Reads a file of labels of any known format.

    Args:
      path: the file.
      lenient: whether lines of a ``####`` file that cannot be read are left out and counted; published ones have some.

    Raises:
      MissingDataError: there is no such file.
      DataError: its format is not known, or its content is not what the format says. The error names file and line.
    """
    require_file(path, fix=f"give a file or folder of labels ({DOCS})")
    try:
        name, sentences, notes = _read(path, lenient)
    except UnusableLabels as error:
        raise unusable(path, error) from None
    except OSError as error:
        raise DataError(
            shown(path), expected="a file that can be read", found=str(error), fix="check its access rights"
        ) from error
    return LabelFile(name, sentences, notes.counts)


def unusable(path: Path, error: UnusableLabels, fix: str = "") -> DataError:
    """The error for the user: where it is, and how to fix it."""
    where = shown(path) if error.line is None else f"{shown(path)}:{error.line}"
    found = error.found if len(error.found) <= _SHOWN else f"{error.found[:_SHOWN]}…"
    # A text from a damaged file may have half a surrogate pair, which no terminal can show.
    found = found.encode("utf-8", "backslashreplace").decode()
    return DataError(where, expected=error.expected, found=found, fix=fix or f"correct that line; formats: {DOCS}")


def _read(path: Path, lenient: bool) -> tuple[str, list[RawSentence], Notes]:
    size = path.stat().st_size
    if size > MAX_FILE_BYTES:
        raise UnusableLabels(None, f"a file of at most {MAX_FILE_BYTES // 10**6} MB", f"{size // 10**6} MB")
    data = path.read_bytes()
    if not data.strip():
        raise UnusableLabels(None, "labelled sentences", "an empty file")
    notes = Notes(lenient)
    if _is_xml(data):
        name, content = "semeval", data
    else:
        content = _decoded(data)
        name = _recognised(path, content)
        if name == "semeval":
            raise UnusableLabels(1, "XML", repr(content.lstrip()[:60]))
    sentences = list(FORMATS[name].read(content, notes))
    for sentence in sentences:
        _require_text(sentence)
    return name, sentences, notes


def _is_xml(data: bytes) -> bool:
    start = data[:200]
    if start.startswith((b"\xff\xfe", b"\xfe\xff")):
        start = start[2:].replace(b"\0", b"")
    return start.removeprefix(b"\xef\xbb\xbf").lstrip().startswith(b"<")


def _decoded(data: bytes) -> str:
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise UnusableLabels(None, "UTF-8 text", "UTF-16 (iconv -f UTF-16 -t UTF-8 converts it)")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise UnusableLabels(line, "UTF-8 text", f"byte 0x{data[error.start]:02x}: {error.reason}") from None
    if "\0" in text:
        raise UnusableLabels(text.count("\n", 0, text.index("\0")) + 1, "text", "a NUL character")
    return text


def _recognised(path: Path, text: str) -> str:
    """The format that most of the first lines have; if none has it, what the suffix says."""
    begin = text.lstrip()
    if begin[:1] in "{[" and path.suffix.lower() != ".txt":
        return "jsonl"
    lines = []
    for _, line in lines_of(text):
        if line.strip():
            lines.append(line)
        if len(lines) == _LOOKED_AT:
            break
    tests: dict[str, Callable[[str], bool]] = {
        "tuples": lambda line: tuple_lines.MARK in line,
        "jsonl": lambda line: line.lstrip().startswith("{"),
        "acos": lambda line: any(map(acos_lines.BEGIN.match, line.split("\t")[1:])),
        "atepc": lambda line: pyabsa_lines.TAGGED.fullmatch(line.strip()) is not None,
    }
    for name, test in tests.items():
        if 2 * sum(map(test, lines)) >= len(lines):
            return name
    if any(pyabsa_lines.TERM_MARK in line for line in lines[:3]):
        return "apc"
    if _has_columns(lines[0]):
        return "table"
    found = _BY_SUFFIX.get(path.suffix.lower())
    if found is None or (found == "table" and "\t" not in lines[0] and "," not in lines[0] and ";" not in lines[0]):
        known = ", ".join(form.title for form in FORMATS.values())
        raise UnusableLabels(1, f"a known format of labels ({known})", repr(lines[0][:80]))
    return found


def _has_columns(line: str) -> bool:
    for delimiter in ",\t;":
        try:
            header = next(csv.reader([line], delimiter=delimiter))
        except (csv.Error, StopIteration):
            continue
        if tables.columns_of(header):
            return True
    return False


def _require_text(sentence: RawSentence) -> None:
    """Checks what no format allows, and what would fail later when it is written."""
    if len(sentence.text) > MAX_TEXT_CHARACTERS:
        found = f"{len(sentence.text):,} characters"
        raise UnusableLabels(sentence.line, f"a sentence of at most {MAX_TEXT_CHARACTERS:,} characters", found)
    if not sentence.text.strip():
        raise UnusableLabels(sentence.line, "the text of a sentence", "none")
    _require_encodable(sentence.text, sentence.line)
    for label in sentence.labels:
        texts = (label.target, label.category, label.polarity, *(label.opinions or ()))
        for text in filter(None, texts):
            _require_encodable(text, label.line)


def _require_encodable(text: str, line: int) -> None:
    if untrusted_json.has_lone_surrogate(text):
        raise UnusableLabels(line, "text", "half a surrogate pair")
