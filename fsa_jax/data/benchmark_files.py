"""Reads the FSA datasets as their authors released them (HITSZ-HLT/FSA-Distillation, ``fsa_datasets/w_hard``), and
labels of one's own in the same format, of which some keys may be left out.

Imports no TensorFlow, because scoring and serving read these files too. docs/data.md describes the format.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

from fsa_base import untrusted_json
from fsa_base.errors import DataError
from fsa_jax.common.paths import require_file
from fsa_jax.common.records import POLARITIES, LabelledAspect, LabelledSentence, Polarity
from fsa_jax.text.tuples import CODECS

RELEASED = ("atsa/rest14", "atsa/laptop14", "acsa/rest16", "acsa/laptop16")
"""The paper's datasets."""
RELEASE = "https://github.com/HITSZ-HLT/FSA-Distillation"
_OWN = "see docs/data.md, labels of your own"
KINDS = tuple(CODECS)
"""The folders of datasets, each with the codec of its name: ``atsa``, ``acsa``, ``tasd``, ``asqp``."""
_NEEDED = {
    "acsa": ("category",),
    "tasd": ("target", "category"),
    "asqp": ("target", "category", "opinion_words"),
}
"""The keys that an aspect must have, by the folder; elsewhere a target."""

_SHOWN = 300
"""Largest number of characters of a found value in an error."""
_SHOWN_ID = 40
_LARGEST_OFFSET = 10**9
_BLANKS = re.compile(r"[ \t\n\r]*")


def label_sets(root: Path) -> list[str]:
    """The datasets with training and dev sentences in a data directory, such as ``atsa/rest14``; no file is read.

    A name has only letters, digits and underscores, because it becomes the name of a SeqIO task.
    """
    return sorted(
        "/".join(file.parts[-3:-1])
        for kind in KINDS
        for file in (root / "fsa" / kind).glob("*/train.json")
        if file.with_name("dev.json").is_file() and re.fullmatch(r"\w+", file.parts[-2], re.ASCII)
    )


def task_of(dataset: str, chat: bool = False) -> str:
    """The SeqIO task of a dataset: ``atsa/rest14`` is ``fsa_atsa_rest14``."""
    return f"fsa_{'chat_' if chat else ''}{dataset.replace('/', '_')}"


def load(path: str | Path) -> list[LabelledSentence]:
    """Reads one dataset file, with or without a byte-order mark. Sentences of ``hard_test.json`` are marked as hard.

    Targets ``null`` and ``"NULL"`` become None, and so do their offsets. Other offsets are kept as released: 103 of
    laptop14 are wrong by a character or two (its authors removed quotation marks), a few are past the end of the
    sentence. A sentence without an ID gets its number, from 1; a target without offsets those of its first occurrence.

    Args:
      path: the file. Below a folder ``acsa``, aspects must have a category; below ``tasd`` and ``asqp`` also a target,
        which may be null; below ``asqp`` opinion words too; elsewhere, a target.

    Raises:
      MissingDataError: there is no such file.
      DataError: the file is not valid JSON or has no sentence; or a sentence lacks a key or has one twice, is nested
        too deep, has half a surrogate pair, an unknown polarity, or a target that is not in it. The error names the
        file, the line, and the number and ID of the sentence.
    """
    path = Path(path)
    released = "/".join(path.parts[-3:-1]) in RELEASED
    require_file(
        path,
        fix=f"git clone {RELEASE} && mkdir -p $FSA_DATA_DIR && cp -r FSA-Distillation/fsa_datasets/w_hard "
        "$FSA_DATA_DIR/fsa   (if FSA_DATA_DIR is not set, it is data/)"
        if released
        else _OWN,
    )
    fix = f"compare with the released file, or fetch it again from {RELEASE}" if released else _OWN
    needed = _NEEDED.get(path.parent.parent.name, ("target",))
    hard = path.name.startswith("hard")
    sentences: list[LabelledSentence] = []
    place = ":1"
    data = path.read_bytes()
    try:
        text = data.decode("utf-8-sig")
        for number, (line, row) in enumerate(_rows(text), 1):
            identity = row.get("ID") if isinstance(row, dict) else None
            named = "" if identity is None else f", ID {str(identity)[:_SHOWN_ID]}"
            place = f":{line} (sentence {number}{named})"
            sentences.append(_sentence(row, number, hard, needed))
        if not sentences:
            raise _Unusable("at least one sentence", "an empty list")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise DataError(f"{path}:{line}", expected="UTF-8 text", found=str(error), fix=fix) from error
    except json.JSONDecodeError as error:
        found = f"{error.msg} at column {error.colno}"
        raise DataError(f"{path}:{error.lineno}", expected="valid JSON", found=found, fix=fix) from error
    except _Unusable as error:
        where = f"{path}{error.place or place}"
        raise DataError(where, expected=error.expected, found=error.found[:_SHOWN], fix=fix) from None
    return sentences


class _Unusable(Exception):
    """A row is not a labelled sentence; the caller adds the file and, if there is none, the place in it."""

    def __init__(self, expected: str, found: str, place: str | None = None) -> None:
        super().__init__(expected, found)
        self.place = place
        self.expected = expected
        self.found = found


def _sentence(row: Any, number: int, hard: bool, needed: tuple[str, ...]) -> LabelledSentence:
    text, aspects = (_value(row, key, "a sentence") for key in ("sentence", "aspects"))
    identity = row.get("ID", number)
    if not isinstance(identity, str | int) or isinstance(identity, bool):
        raise _Unusable("an ID, a number or a text", repr(identity))
    if not isinstance(text, str):
        raise _Unusable("a sentence's text", repr(text))
    if not isinstance(aspects, list):
        raise _Unusable("a list of aspects", repr(aspects))
    return LabelledSentence(
        id=str(identity), text=text, aspects=tuple(_aspect(aspect, text, needed) for aspect in aspects), hard=hard
    )


def _aspect(row: Any, text: str, needed: tuple[str, ...]) -> LabelledAspect:
    *_, polarity = (_value(row, key, "an aspect") for key in (*needed, "polarity"))
    target, category = row.get("target"), row.get("category")
    if polarity not in POLARITIES:
        raise _Unusable(f"a polarity of {', '.join(POLARITIES)}", repr(polarity))
    if not (category is None or isinstance(category, str)):
        raise _Unusable("a category or null", repr(category))
    if len(needed) > 1 and not category:
        raise _Unusable("a category", repr(category))
    if target in (None, "NULL"):
        target = start = end = None
    elif not isinstance(target, str) or not target.strip():
        raise _Unusable("a target or null", repr(target))
    elif target not in text:
        raise _Unusable("a target that occurs in its sentence", f"{target!r} in {text!r}")
    elif "from" in row or "to" in row:
        start, end = (_value(row, key, "an aspect with offsets") for key in ("from", "to"))
    else:
        start = text.index(target)
        end = start + len(target)
    return LabelledAspect(
        target=target,
        category=category,
        polarity=cast(Polarity, polarity),
        start=_offset(start),
        end=_offset(end),
        opinion_words=_opinion_words(row["opinion_words"]) if "opinion_words" in row else None,
        offsets_as_text=isinstance(start, str),
    )


def _value(row: Any, key: str, of_what: str) -> Any:
    if not isinstance(row, dict):
        raise _Unusable(f"{of_what} as a JSON object", repr(row)[:80])
    if key not in row:
        raise _Unusable(f"the key {key!r} in {of_what}", f"only {', '.join(map(repr, row)) or 'an empty object'}")
    return row[key]


def _offset(value: Any) -> int | None:
    """An offset as a number; released files have ints, strings of digits or null."""
    if value is None or (type(value) is int and 0 <= value <= _LARGEST_OFFSET):
        return value
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) < len(str(_LARGEST_OFFSET)):
        return int(value)
    raise _Unusable("a character offset, 0 or more", repr(value))


def _opinion_words(value: Any) -> tuple[str, ...]:
    """Opinion words; rest14 and laptop14 have one string or null, the other files a list of spans."""
    parts = [value] if isinstance(value, str) else [] if value is None else value
    if isinstance(parts, list):
        words = [part.get("opinion") if isinstance(part, dict) else part for part in parts]
        kept = tuple(word for word in words if isinstance(word, str))
        if len(kept) == len(words):
            return tuple(word for word in kept if word.strip())
    raise _Unusable("opinion words as a list, a string or null", repr(value)[:80])


def _rows(text: str) -> Iterator[tuple[int, Any]]:
    """The items of a JSON list, each with the line on which it begins.

    Raises:
      json.JSONDecodeError: the text is not JSON.
      _Unusable: it is not a list, or an item is nested too deep, has half a surrogate pair or a key twice.
    """
    decoder = json.JSONDecoder(object_pairs_hook=_without_duplicates)
    at = _skip(text, 0)
    if text[at : at + 1] != "[":
        raise _Unusable("a list of sentences", _kind(text, at), ":1")
    line, number, counted, at = 1, 0, 0, _skip(text, at + 1)
    is_last = text[at : at + 1] == "]"
    while not is_last:
        line, counted, number = line + text.count("\n", counted, at), at, number + 1
        place = f":{line} (sentence {number})"
        try:
            row, end = decoder.raw_decode(text, at)
            untrusted_json.parse(text[at:end])
        except json.JSONDecodeError:
            raise
        except RecursionError:
            raise _Unusable("a sentence", f"JSON nested more than {untrusted_json.MAX_DEPTH} deep", place) from None
        except ValueError as error:
            raise _Unusable("a sentence", str(error), place) from None
        yield line, row
        at = _skip(text, end)
        is_last = text[at : at + 1] == "]"
        if not is_last:
            if text[at : at + 1] != ",":
                raise json.JSONDecodeError("Expecting ',' delimiter", text, at)
            at = _skip(text, at + 1)
    if (rest := _skip(text, at + 1)) < len(text):
        raise json.JSONDecodeError("Extra data", text, rest)


def _kind(text: str, at: int) -> str:
    try:
        return type(json.JSONDecoder().raw_decode(text, at)[0]).__name__
    except RecursionError:
        return "deep JSON"


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    row = dict(pairs)
    if len(row) < len(pairs):
        raise ValueError(f"a repeated key among {', '.join(key for key, _ in pairs)[:80]}")
    return row


def _skip(text: str, at: int) -> int:
    match = _BLANKS.match(text, at)
    return match.end() if match else at
