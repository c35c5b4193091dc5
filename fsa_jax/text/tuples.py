"""Triples and quadruples as text, in the form of the pairs, for labels of one's own; and all codecs by name.

* TASD, triples of an aspect term, a category and a polarity:
  ``bread | food quality | positive ; NULL | service general | negative``;
* ASQP, quadruples with opinion words too:
  ``bread | food quality | positive | good ; NULL | service general | negative | NULL``.

``NULL`` stands for a term that the sentence does not name, and for a label without opinion words, as in the files of
that line of work. A label with several opinion words is several quadruples.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from fsa_jax.common.records import POLARITIES, LabelledAspect, LabelledSentence
from fsa_jax.text.pairs import ACSA, ATSA, DELIMITER, SEPARATOR, Codec, Order, category_text, readable

NULL = "NULL"


def write_tuples(tuples: Mapping[tuple[str, ...], object]) -> str:
    """Writes tuples in the given order."""
    return f" {SEPARATOR} ".join(f" {DELIMITER} ".join(parts) for parts in tuples)


def read_tuples(text: str, sentence_text: str, size: int) -> list[tuple[str, ...]]:
    """Parses triples or quadruples; never raises an error.

    The rule is that of the pairs: a part is valid if it has ``size`` texts that are not blank, the third of them is one
    of the four polarities, and terms and opinion words are ``NULL`` or substrings of the sentence. Duplicates are kept.

    Example:
      >>> read_tuples("bread | food | positive ; NULL | service | bad", "The bread was good.", 3)
      [('bread', 'food', 'positive')]

    Args:
      text: a target or a prediction.
      sentence_text: the sentence.
      size: 3 or 4.
    """
    found = []
    for part in text.split(SEPARATOR):
        fields = tuple(field.strip() for field in part.split(DELIMITER))
        if len(fields) == size and all(fields) and fields[2] in POLARITIES:
            quoted = (fields[0], *fields[3:])
            if all(words == NULL or words in sentence_text for words in quoted):
                found.append(fields)
    return found


def encode_triples(sentence: LabelledSentence, order: Order = "position") -> str:
    """Writes a sentence's distinct triples in the order of their offsets; those without a term come first.

    Aspects without a category are left out, and so are those that ``unreadable_triples`` returns. There is no released
    order, so both values of ``order`` give the same text.
    """
    del order
    return write_tuples(dict.fromkeys(_triple(aspect) for aspect in _by_position(sentence) if _holds_triple(aspect)))


def unreadable_triples(sentence: LabelledSentence) -> list[LabelledAspect]:
    """Aspects whose term or category contains the separators ``;`` or ``|``."""
    return [aspect for aspect in sentence.aspects if aspect.category is not None and not _holds_triple(aspect)]


def decode_triples(text: str, sentence_text: str) -> list[tuple[str, ...]]:
    """Parses (term, category, polarity) triples by the rule of :func:`read_tuples`."""
    return read_tuples(text, sentence_text, 3)


def encode_quadruples(sentence: LabelledSentence, order: Order = "position") -> str:
    """Writes a sentence's distinct quadruples in the order of the terms' offsets, then of the record's opinion words.

    Aspects without a category, or without annotated opinion words (``opinion_words`` is None), are left out, and so are
    those that ``unreadable_quadruples`` returns.
    """
    del order
    aspects = [aspect for aspect in _by_position(sentence) if _holds_quadruples(aspect, sentence.text)]
    return write_tuples(dict.fromkeys(parts for aspect in aspects for parts in _quadruples(aspect)))


def unreadable_quadruples(sentence: LabelledSentence) -> list[LabelledAspect]:
    """Aspects with ``;`` or ``|`` in term, category or opinion words, or with opinion words that the sentence lacks."""
    return [
        aspect
        for aspect in sentence.aspects
        if aspect.category is not None
        and aspect.opinion_words is not None
        and not _holds_quadruples(aspect, sentence.text)
    ]


def decode_quadruples(text: str, sentence_text: str) -> list[tuple[str, ...]]:
    """Parses (term, category, polarity, opinion words) quadruples by the rule of :func:`read_tuples`."""
    return read_tuples(text, sentence_text, 4)


def _by_position(sentence: LabelledSentence) -> list[LabelledAspect]:
    return sorted(sentence.aspects, key=lambda aspect: (aspect.start or 0, aspect.end or 0))


def _triple(aspect: LabelledAspect) -> tuple[str, str, str]:
    return (aspect.target or NULL).strip(), category_text(aspect.category or "").strip(), aspect.polarity


def _quadruples(aspect: LabelledAspect) -> Iterator[tuple[str, ...]]:
    for words in aspect.opinion_words or (NULL,):
        yield *_triple(aspect), words.strip()


def _holds_triple(aspect: LabelledAspect) -> bool:
    return bool(aspect.category) and all(map(readable, _triple(aspect)))


def _holds_quadruples(aspect: LabelledAspect, text: str) -> bool:
    opinions = aspect.opinion_words
    return (
        _holds_triple(aspect) and opinions is not None and all(readable(words) and words in text for words in opinions)
    )


TASD = Codec(("target", "category", "polarity"), encode_triples, decode_triples, unreadable_triples)
ASQP = Codec(
    ("target", "category", "polarity", "opinion_words"), encode_quadruples, decode_quadruples, unreadable_quadruples
)
CODECS: Mapping[str, Codec] = {"atsa": ATSA, "acsa": ACSA, "tasd": TASD, "asqp": ASQP}
"""The codecs by the folder of their datasets (``fsa/atsa/rest14``), from the smallest to the largest tuple."""
