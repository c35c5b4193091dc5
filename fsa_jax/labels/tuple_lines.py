"""The ``sentence####[…]`` files of the ASTE, TASD and ASQP line of work, and of M-ABSA: one sentence per line.

The list has one of five kinds of tuples, which may be lists too::

    The bread was good .####[([1], [3], 'POS')]                      words of the term and of the opinion (ASTE)
    The bread was good .####[([1], 'POS')]                           words of the term
    The bread was good .####[['bread', 'food quality', 'positive']]        term, category, polarity (TASD, M-ABSA)
    The bread was good .####[['bread', 'food quality', 'positive', 'good']]  and opinion words (ASQP, ACOS)
    The bread was good .####[('bread', 'positive')]                  term, polarity

Words are separated by blanks and counted from 0. ``NULL`` stands for a term or opinion that is not named. Older ASTE
files have word tags between sentence and list, which are not read.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from fsa_base import untrusted_json
from fsa_jax.labels.raw import Notes, RawLabel, RawSentence, UnusableLabels, lines_of, named

MARK = "####"
UNREADABLE = "lines that could not be read"
_WORD = re.compile(r"\S+")
_BETWEEN_TUPLES = re.compile(r"[\])]\s*,\s*[\[(]")
_BETWEEN_TEXTS = re.compile(r"""['"]\s*,\s*['"]""")
_MOST_TEXTS = 4


def read(text: str, notes: Notes) -> Iterator[RawSentence]:
    """Reads such a file.

    Raises:
      UnusableLabels: a line has another form, and ``notes`` are not lenient.
    """
    for number, line in lines_of(text):
        if not line.strip():
            continue
        try:
            yield _sentence(line, number, notes)
        except UnusableLabels:
            if not notes.lenient:
                raise
            notes.add(UNREADABLE)


def _sentence(line: str, number: int, notes: Notes) -> RawSentence:
    parts = line.split(MARK)
    if len(parts) not in (2, 4):
        found = "a line without ####" if len(parts) == 1 else f"{len(parts) - 1} times ####"
        raise UnusableLabels(number, "sentence####[labels]", found)
    sentence, written = parts[0], parts[-1].strip()
    if not sentence.strip():
        raise UnusableLabels(number, "a sentence before ####", "none")
    if not written:
        return RawSentence(number, sentence, unlabelled="sentences with nothing after ####")
    words = [(match.start(), match.end()) for match in _WORD.finditer(sentence)]
    labels = [_label(label, sentence, words, number, notes) for label in _tuples(written, number, notes)]
    return RawSentence(number, sentence, tuple(labels))


def _tuples(written: str, line: int, notes: Notes) -> list[Any]:
    try:
        value = untrusted_json.parse_literal(written)
    except untrusted_json.UntrustedJsonError as error:
        value = _with_broken_quotes(written)
        if value is None:
            found = repr(written[:80]) if error.reason == "broken JSON" else str(error)
            raise UnusableLabels(line, "a list of tuples after ####", found) from None
        notes.add("lines with broken quotes, which were read all the same")
    if not isinstance(value, list):
        raise UnusableLabels(line, "a list of tuples after ####", repr(value)[:80])
    return value


def _with_broken_quotes(written: str) -> list[list[str]] | None:
    """Reads ``[['Ng's food', 'food', 'positive']]``, which M-ABSA has; None if that does not work either."""
    if len(written) > untrusted_json.MAX_LITERAL_CHARACTERS or not re.match(
        r"\[\s*[\[(].*[\])]\s*\]$", written, re.DOTALL
    ):
        return None
    found = []
    for part in _BETWEEN_TUPLES.split(written[1:-1].strip()[1:-1]):
        part = part.strip()
        if len(part) < 2 or part[0] not in "'\"" or part[-1] not in "'\"":
            return None
        texts = _BETWEEN_TEXTS.split(part[1:-1])
        if not 2 <= len(texts) <= _MOST_TEXTS or any("\\" in text for text in texts):
            return None
        found.append(texts)
    return found


def _label(label: Any, sentence: str, words: list[tuple[int, int]], line: int, notes: Notes) -> RawLabel:
    if not isinstance(label, list | tuple):
        raise UnusableLabels(line, "a tuple for each label", repr(label)[:80])
    if len(label) in (2, 3) and isinstance(label[0], list | tuple):
        if isinstance(label[-1], list | tuple):
            raise UnusableLabels(line, "a polarity at the end of each tuple", repr(label)[:80])
        spans = []
        for numbers in label[:-1]:
            problem = _problem(numbers, words, line)
            if problem:
                return RawLabel(line, _text(label[-1], line), problem=problem)
            if list(numbers) != list(range(numbers[0], numbers[-1] + 1)):
                notes.add("lists of word numbers with gaps, of which all words from first to last were taken")
            spans.append((words[numbers[0]][0], words[numbers[-1]][1]))
        (start, end), *others = spans
        return RawLabel(
            line,
            _text(label[-1], line),
            has_target=True,
            target=sentence[start:end],
            start=start,
            end=end,
            opinions=tuple(sentence[first:after] for first, after in others) if others else None,
        )
    texts = [_text(part, line) for part in label]
    if len(texts) == 2:
        return RawLabel(line, texts[1], has_target=True, target=texts[0])
    if len(texts) in (3, 4):
        opinion = named(texts[3]) if len(texts) == 4 else None
        return RawLabel(
            line,
            texts[2],
            has_target=True,
            target=texts[0],
            category=texts[1],
            opinions=((opinion,) if opinion else ()) if len(texts) == 4 else None,
        )
    raise UnusableLabels(line, "tuples of 2 to 4 parts", repr(label)[:80])


def _text(value: Any, line: int) -> str:
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise UnusableLabels(line, "texts, or lists of word numbers, in each tuple", repr(value)[:80])
    return str(value)


def _problem(numbers: Any, words: list[tuple[int, int]], line: int) -> tuple[str, str] | None:
    """What is wrong with a list of word numbers of a sentence."""
    if not (isinstance(numbers, list | tuple) and numbers and all(type(number) is int for number in numbers)):
        raise UnusableLabels(line, "a list of word numbers", repr(numbers)[:80])
    if min(numbers) < 0 or max(numbers) >= len(words):
        return f"word numbers from 0 to {len(words) - 1}", repr(numbers)[:80]
    if list(numbers) != sorted(set(numbers)):
        return "word numbers in ascending order", repr(numbers)[:80]
    return None
