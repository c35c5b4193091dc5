"""Sentiment pairs as text, in the form and order of HITSZ-HLT/FSA-Distillation (evaluation/atsa.py and acsa.py).

* ATSA, pairs of an aspect term and a polarity: ``bread | positive ; service | negative``;
* ACSA, pairs of an aspect category and a polarity: ``food quality | positive ; service general | negative``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Literal, NamedTuple, cast

from fsa_jax.common.records import POLARITIES, LabelledAspect, LabelledSentence

SEPARATOR = ";"
DELIMITER = "|"


def readable(name: str) -> bool:
    """Whether a term or category is free of the separators ``;`` and ``|``, so that it can be parsed again."""
    return bool(name.strip()) and SEPARATOR not in name and DELIMITER not in name


def write_pairs(pairs: Iterable[tuple[str, str]]) -> str:
    """Writes pairs in the given order."""
    return f" {SEPARATOR} ".join(f"{name} {DELIMITER} {polarity}" for name, polarity in pairs)


def read_pairs(text: str) -> list[tuple[str, str]]:
    """Parses parts that have exactly one ``|`` and a known polarity, duplicates included (released scoring rule).

    Example:
      >>> read_pairs("bread | positive ; service | negative ; wine | tasty")
      [('bread', 'positive'), ('service', 'negative')]
    """
    pairs = []
    for part in text.split(SEPARATOR):
        name, _, polarity = part.partition(DELIMITER)
        if part.count(DELIMITER) == 1 and polarity.strip() in POLARITIES:
            pairs.append((name.strip(), polarity.strip()))
    return pairs


Order = Literal["position", "released"]


def encode_targets(sentence: LabelledSentence, order: Order = "position") -> str:
    """Writes a sentence's targets and polarities.

    There is one pair for each distinct (term, polarity, start, end). Aspects without a target are left out, and so are
    those that ``unreadable_targets`` returns. Pairs with equal offsets keep the order of the file.

    Args:
      sentence: labelled sentence.
      order: "position" sorts by the offsets. "released" sorts like the authors' code: offsets that are text in the file
        are compared as text, so that "104" comes before "22".
    """
    distinct = {(a.target, a.polarity, a.start, a.end): a for a in sentence.aspects if a.target and readable(a.target)}
    as_text = order == "released" and any(aspect.offsets_as_text for aspect in distinct.values())

    def position(aspect: LabelledAspect) -> tuple:
        offsets = (aspect.start or 0, aspect.end or 0)
        return tuple(map(str, offsets)) if as_text else offsets

    return write_pairs((str(aspect.target), aspect.polarity) for aspect in sorted(distinct.values(), key=position))


def unreadable_targets(sentence: LabelledSentence) -> list[LabelledAspect]:
    """Aspects whose term contains the separators ``;`` or ``|``; the released files have none."""
    return [aspect for aspect in sentence.aspects if aspect.target is not None and not readable(aspect.target)]


def decode_targets(text: str, sentence_text: str) -> list[tuple[str, str]]:
    """Parses (term, polarity) pairs of a target or a prediction; never raises an error.

    The released rule: a part is valid if it has exactly one ``|``, one of the four polarities, and a term that is a
    substring of the sentence. Duplicates are kept, because they lower precision.
    """
    return [(term, polarity) for term, polarity in read_pairs(text) if term in sentence_text]


def category_text(category: str) -> str:
    """The text of a category in targets: ``food quality`` for ``FOOD#QUALITY``."""
    return category.lower().replace("#", " ")


def encode_categories(sentence: LabelledSentence, order: Order = "position") -> str:
    """Writes a sentence's distinct (category, polarity) pairs in the order of the file.

    Categories have no offsets in the sentence, so both values of ``order`` give the same text. Aspects without a
    category are left out, and so are those that ``unreadable_categories`` returns.
    """
    del order
    pairs = [
        (category_text(aspect.category), aspect.polarity)
        for aspect in sentence.aspects
        if aspect.category and readable(aspect.category)
    ]
    return write_pairs(dict.fromkeys(pairs))


def unreadable_categories(sentence: LabelledSentence) -> list[LabelledAspect]:
    """Aspects whose category contains ``;`` or ``|``; the released files have none."""
    return [aspect for aspect in sentence.aspects if aspect.category is not None and not readable(aspect.category)]


def decode_categories(text: str, sentence_text: str) -> list[tuple[str, str]]:
    """Parses (category, polarity) pairs of a target or a prediction by the released rule; never raises an error.

    ``sentence_text`` is not used, because a category need not occur in the sentence. It is there so that both codecs
    have the same arguments.
    """
    del sentence_text
    return read_pairs(text)


class Codec(NamedTuple):
    """How labelled sentences become target texts, and how predictions are read.

    Attributes:
      parts: what the tuples consist of.
      encode: writes a sentence's tuples; its second argument is the order.
      decode: reads tuples from a target or a prediction about a sentence.
      unreadable: the aspects that the form cannot hold.
    """

    parts: tuple[str, ...]
    encode: Callable[..., str]
    decode: Callable[[str, str], list[tuple[str, ...]]]
    unreadable: Callable[[LabelledSentence], list[LabelledAspect]]


ATSA = Codec(("target", "polarity"), encode_targets, cast(Any, decode_targets), unreadable_targets)
ACSA = Codec(("category", "polarity"), encode_categories, cast(Any, decode_categories), unreadable_categories)
