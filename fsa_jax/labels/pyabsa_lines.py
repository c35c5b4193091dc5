"""PyABSA's files: ``.apc``, three lines for each term, and ``.atepc``, one line for each word.

``.apc``: the sentence with ``$T$`` in place of the term, the term, its polarity::

    The $T$ was good but the staff was rude.
    bread
    Positive

``.atepc``: word, tag, polarity; sentences end with an empty line. A sentence with two terms may be there twice, each
time with the polarity of one of them; ``-100`` or ``-999`` stands for the others::

    The O -100
    bread B-ASP Positive
    was O -100
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from fsa_jax.labels.raw import Notes, RawLabel, RawSentence, UnusableLabels, grouped, lines_of

TERM_MARK = "$T$"
TAGGED = re.compile(r"(\S+)[ \t]+(O|B-ASP|I-ASP)[ \t]+(\S+)")
_NONE = ("-100", "-999")


def read_apc(text: str, notes: Notes) -> Iterator[RawSentence]:
    """Reads ``.apc``; rows with the same text are one sentence.

    Raises:
      UnusableLabels: a group of three lines has another form.
    """
    del notes
    return grouped(_terms(text))


def _terms(text: str) -> Iterator[tuple[str, RawSentence]]:
    lines = [(number, line) for number, line in lines_of(text) if line.strip()]
    for at in range(0, len(lines), 3):
        number, template = lines[at]
        if template.count(TERM_MARK) != 1:
            found = f"{template.count(TERM_MARK)} times, in {template[:80]!r}"
            raise UnusableLabels(number, f"a sentence with {TERM_MARK} once, every third line", found)
        if at + 2 >= len(lines):
            raise UnusableLabels(number, "a term and a polarity on the next two lines", "the end of the file")
        (_, term), (polarity_line, polarity) = lines[at + 1 : at + 3]
        if TERM_MARK in term or TERM_MARK in polarity:
            raise UnusableLabels(polarity_line, "a term and a polarity after each sentence", f"{TERM_MARK} again")
        before, after = template.split(TERM_MARK)
        before, term = before.lstrip(), term.strip()
        sentence = f"{before}{term}{after}".rstrip()
        label = RawLabel(
            polarity_line,
            polarity.strip(),
            has_target=True,
            target=term,
            start=len(before),
            end=len(before) + len(term),
        )
        yield sentence, RawSentence(number, sentence, (label,))


def read_atepc(text: str, notes: Notes) -> Iterator[RawSentence]:
    """Reads ``.atepc``; copies of a sentence are one sentence. Its text has one blank between words.

    Raises:
      UnusableLabels: a line has another form, or an ``I-ASP`` follows no other ``ASP``.
    """
    for sentence in grouped(_sentences(text)):
        with_polarity = {(label.start, label.end) for label in sentence.labels if label.polarity not in _NONE}
        labels = [label for label in sentence.labels if label.polarity not in _NONE]
        others = {(label.start, label.end) for label in sentence.labels} - with_polarity
        if others:
            notes.add("terms without a polarity, which were left out", len(others))
        yield RawSentence(sentence.line, sentence.text, tuple(labels))


def _sentences(text: str) -> Iterator[tuple[str, RawSentence]]:
    block: list[tuple[int, str, str, str]] = []
    for number, line in [*lines_of(text), (0, "")]:
        if line.strip():
            match = TAGGED.fullmatch(line.strip())
            if not match:
                raise UnusableLabels(number, "a word, O, B-ASP or I-ASP, and a polarity or -100", repr(line[:80]))
            block.append((number, match[1], match[2], match[3]))
        elif block:
            sentence = " ".join(word for _, word, _, _ in block)
            yield sentence, RawSentence(block[0][0], sentence, tuple(_spans(block, sentence)))
            block = []


def _spans(block: list[tuple[int, str, str, str]], sentence: str) -> Iterator[RawLabel]:
    at = 0
    begun: tuple[int, int, str] | None = None
    end = 0
    for line, word, tag, polarity in [*block, (0, "", "O", "")]:
        if tag == "I-ASP":
            if begun is None:
                raise UnusableLabels(line, "B-ASP at the first word of a term", "I-ASP after O")
        elif begun is not None:
            first, start, said = begun
            yield RawLabel(first, said, has_target=True, target=sentence[start:end], start=start, end=end)
            begun = None
        if tag == "B-ASP":
            begun = (line, at, polarity)
        end = at + len(word)
        at = end + 1
