"""Reader of the FSA datasets as their authors released them (HITSZ-HLT/FSA-Distillation, ``fsa_datasets/w_hard``).

Imports no TensorFlow: scoring and serving read these files too. docs/data.md lists what the format hides.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, cast, get_args

from fsa_jax.errors import DataError
from fsa_jax.paths import require_file
from fsa_jax.records import POLARITIES, LabelledAspect, LabelledSentence, Polarity

RELEASE = "https://github.com/HITSZ-HLT/FSA-Distillation"
_MEND = f"compare with the released file, or fetch it again from {RELEASE}"


def load(path: str | Path) -> list[LabelledSentence]:
    """Reads one dataset file, with or without a byte-order mark; ``hard_test.json`` gives hard sentences.

    Targets ``null`` and ``"NULL"`` become None, with their offsets. Offsets are kept as released: 103 of laptop14's lie
    a character or two off their term (its authors removed quotation marks), a few past the end of the sentence.

    Raises:
      MissingDataError: there is no such file.
      DataError: the file is not valid JSON, holds no sentence, or a sentence lacks a key, names an unknown polarity or
        a target that does not stand in it; names the file and the line.
    """
    path = require_file(
        Path(path),
        fix=f"git clone {RELEASE} && mkdir -p $FSA_DATA_DIR && cp -r FSA-Distillation/fsa_datasets/w_hard "
        "$FSA_DATA_DIR/fsa   (FSA_DATA_DIR is data/ where it is not set)",
    )
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(path, expected="UTF-8 text", found=str(error), fix=_MEND) from error
    try:
        rows = json.loads(text)
    except json.JSONDecodeError as error:
        raise DataError(f"{path}:{error.lineno}", expected="valid JSON", found=error.msg, fix=_MEND) from error
    if not isinstance(rows, list):
        raise DataError(f"{path}:1", expected="a list of sentences", found=type(rows).__name__, fix=_MEND)
    if not rows:
        raise DataError(f"{path}:1", expected="at least one sentence", found="an empty list", fix=_MEND)
    sentences = []
    for index, row in enumerate(rows):
        try:
            sentences.append(_sentence(row, hard=path.name.startswith("hard")))
        except _Unusable as error:
            where = f"{path}:{_line_of(text, index)}"
            raise DataError(where, expected=error.expected, found=error.found, fix=_MEND) from None
    return sentences


class _Unusable(Exception):
    """A row that is not a labelled sentence; the caller knows where it stands."""

    def __init__(self, expected: str, found: str) -> None:
        super().__init__(expected, found)
        self.expected = expected
        self.found = found


def _sentence(row: Any, hard: bool) -> LabelledSentence:
    identity, text, aspects = (_value(row, key, "a sentence") for key in ("ID", "sentence", "aspects"))
    if not isinstance(text, str):
        raise _Unusable("a sentence's text", f"{text!r} (ID {identity})")
    if not isinstance(aspects, list):
        raise _Unusable("a list of aspects", f"{aspects!r} (ID {identity})")
    return LabelledSentence(
        id=str(identity), text=text, aspects=tuple(_aspect(aspect, text) for aspect in aspects), hard=hard
    )


def _aspect(row: Any, text: str) -> LabelledAspect:
    target, category, polarity, start, end = (
        _value(row, key, "an aspect") for key in ("target", "category", "polarity", "from", "to")
    )
    if polarity not in get_args(Polarity):
        raise _Unusable(f"a polarity of {', '.join(POLARITIES)}", repr(polarity))
    if not (category is None or isinstance(category, str)):
        raise _Unusable("a category or null", repr(category))
    if target in (None, "NULL"):
        target = start = end = None
    elif not isinstance(target, str) or not target.strip():
        raise _Unusable("a target or null", repr(target))
    elif target not in text:
        raise _Unusable("a target that stands in its sentence", f"{target!r} in {text!r}")
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
    """An offset as a number; released files hold ints, strings of digits or null."""
    if value is None or (isinstance(value, int) and not isinstance(value, bool) and value >= 0):
        return value
    if isinstance(value, str) and value.isascii() and value.isdigit():
        return int(value)
    raise _Unusable("a character offset, 0 or more", repr(value))


def _opinion_words(value: Any) -> tuple[str, ...]:
    """Opinion words; rest14 and laptop14 hold one string or null, the other files a list of spans."""
    parts = [value] if isinstance(value, str) else [] if value is None else value
    if isinstance(parts, list):
        words = [part.get("opinion") if isinstance(part, dict) else part for part in parts]
        kept = tuple(word for word in words if isinstance(word, str))
        if len(kept) == len(words):
            return tuple(word for word in kept if word.strip())
    raise _Unusable("opinion words as a list, a string or null", repr(value)[:80])


def _line_of(text: str, index: int) -> int:
    """Line on which the list's item ``index`` begins."""
    decoder, position = json.JSONDecoder(), text.index("[") + 1
    for _ in range(index):
        position = decoder.raw_decode(text, _skip(text, position))[1]
        position = _skip(text, position) + 1
    return text.count("\n", 0, _skip(text, position)) + 1


def _skip(text: str, position: int) -> int:
    while text[position].isspace():
        position += 1
    return position
