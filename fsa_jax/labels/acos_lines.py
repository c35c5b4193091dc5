"""ACOS's own files (NUSTM/ACOS): a sentence and its quadruples, separated by tabs.

::

    the bread was good but nobody smiled .⇥1,2 FOOD#QUALITY 2 3,4⇥-1,-1 SERVICE#GENERAL 0 -1,-1

A quadruple has the words of the term (end exclusive), the category, 0 for negative, 1 for neutral or 2 for positive,
and the words of the opinion; ``-1,-1`` stands for a term or opinion that is not named.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from fsa_jax.labels.raw import Notes, RawLabel, RawSentence, UnusableLabels, lines_of

QUADRUPLE = re.compile(r"(-?\d{1,6}),(-?\d{1,6}) (\S+) ([012]) (-?\d{1,6}),(-?\d{1,6})", re.ASCII)
BEGIN = re.compile(r"-?\d{1,6},-?\d{1,6} ", re.ASCII)
"""How a quadruple begins; by this the format is recognised."""
_POLARITIES = ("negative", "neutral", "positive")
_NOT_NAMED = (-1, -1)
_WORD = re.compile(r"\S+")


def read(text: str, notes: Notes) -> Iterator[RawSentence]:
    """Reads such a file.

    Raises:
      UnusableLabels: a line has another form.
    """
    del notes
    for number, line in lines_of(text):
        if not line.strip():
            continue
        sentence, *quadruples = line.split("\t")
        words = [(match.start(), match.end()) for match in _WORD.finditer(sentence)]
        written = [quadruple.strip() for quadruple in quadruples if quadruple.strip()]
        if not written:
            yield RawSentence(number, sentence, unlabelled="lines without a quadruple")
            continue
        yield RawSentence(number, sentence, tuple(_label(part, sentence, words, number) for part in written))


def _label(quadruple: str, sentence: str, words: list[tuple[int, int]], line: int) -> RawLabel:
    match = QUADRUPLE.fullmatch(quadruple)
    if not match:
        raise UnusableLabels(line, "quadruples such as 1,2 FOOD#QUALITY 2 3,4", repr(quadruple)[:80])
    spans = [(int(match[1]), int(match[2])), (int(match[5]), int(match[6]))]
    for first, after in spans:
        if (first, after) != _NOT_NAMED and not 0 <= first < after <= len(words):
            expected = f"words from 0 to {len(words)}, end exclusive, or -1,-1"
            return RawLabel(line, _POLARITIES[int(match[4])], problem=(expected, f"{first},{after}"))
    term, opinion = (None if span == _NOT_NAMED else (words[span[0]][0], words[span[1] - 1][1]) for span in spans)
    return RawLabel(
        line,
        _POLARITIES[int(match[4])],
        has_target=True,
        target=sentence[slice(*term)] if term else None,
        category=match[3],
        start=term[0] if term else None,
        end=term[1] if term else None,
        opinions=(sentence[slice(*opinion)],) if opinion else (),
    )
