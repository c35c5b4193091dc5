"""Sentiment pairs as text, in the form and order of HITSZ-HLT/FSA-Distillation (evaluation/atsa.py and acsa.py).

* ATSA, pairs of an aspect term and a polarity: ``bread | positive ; service | negative``;
* ACSA, pairs of an aspect category and a polarity: ``food quality | positive ; service general | negative``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Literal, NamedTuple

from fsa_jax.common.records import POLARITIES, LabelledAspect, LabelledSentence

SEPARATOR = ";"
DELIMITER = "|"


def readable(name: str) -> bool:
    """Whether a term or category can be told from the form's own ``;`` and ``|``, so that it comes back when read."""
    return bool(name.strip()) and SEPARATOR not in name and DELIMITER not in name


def write_pairs(pairs: Iterable[tuple[str, str]]) -> str:
    """Writes pairs in their order."""
    return f" {SEPARATOR} ".join(f"{name} {DELIMITER} {polarity}" for name, polarity in pairs)


def read_pairs(text: str) -> list[tuple[str, str]]:
    """Reads the parts that have exactly one ``|`` and a known polarity, duplicates included (released scoring rule)."""
    pairs = []
    for part in text.split(SEPARATOR):
        name, _, polarity = part.partition(DELIMITER)
        if part.count(DELIMITER) == 1 and polarity.strip() in POLARITIES:
            pairs.append((name.strip(), polarity.strip()))
    return pairs


Order = Literal["position", "released"]


def encode_targets(sentence: LabelledSentence, order: Order = "position") -> str:
    """Writes a sentence's targets and polarities.

    One pair for each distinct (term, polarity, start, end); aspects without a target are left out, and so are those
    that ``unreadable_targets`` returns. Pairs with equal offsets keep the order of the file.

    Args:
      sentence: a labelled sentence.
      order: "position" sorts by the offsets. "released" sorts them as its authors' code did: as text where the file
        holds text, so that "104" comes before "22".
    """
    distinct = {(a.target, a.polarity, a.start, a.end): a for a in sentence.aspects if a.target and readable(a.target)}
    as_text = order == "released" and any(aspect.offsets_as_text for aspect in distinct.values())

    def position(aspect: LabelledAspect) -> tuple:
        offsets = (aspect.start or 0, aspect.end or 0)
        return tuple(map(str, offsets)) if as_text else offsets

    return write_pairs((str(aspect.target), aspect.polarity) for aspect in sorted(distinct.values(), key=position))


def unreadable_targets(sentence: LabelledSentence) -> list[LabelledAspect]:
    """Aspects whose term holds ``;`` or ``|``, the form's own marks; none of the released files has any."""
    return [aspect for aspect in sentence.aspects if aspect.target is not None and not readable(aspect.target)]


def decode_targets(text: str, sentence_text: str) -> list[tuple[str, str]]:
    """Reads (term, polarity) pairs from a target or a prediction; never raises.

    Released rule: a part counts if it has exactly one ``|``, a polarity of the four, and a term that is a substring of
    the sentence. Duplicates are kept, since they count against precision.
    """
    return [(term, polarity) for term, polarity in read_pairs(text) if term in sentence_text]


def category_text(category: str) -> str:
    """``FOOD#QUALITY`` as the targets have it: ``food quality``."""
    return category.lower().replace("#", " ")


def encode_categories(sentence: LabelledSentence, order: Order = "position") -> str:
    """Writes a sentence's distinct categories and polarities in the order of the file, the first occurrence kept.

    Categories have no place in the sentence: both orders of the ATSA codec give the same text here. Aspects without a
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
    """Aspects whose category holds ``;`` or ``|``; none of the released files has any."""
    return [aspect for aspect in sentence.aspects if aspect.category is not None and not readable(aspect.category)]


def decode_categories(text: str, sentence_text: str) -> list[tuple[str, str]]:
    """Reads (category, polarity) pairs from a target or a prediction by the released rule; never raises.

    The sentence plays no part, since a category need not stand in it; it is taken so that both codecs read alike.
    """
    del sentence_text
    return read_pairs(text)


class PairCodec(NamedTuple):
    """How labelled sentences become target texts, and how predictions are read.

    Attributes:
      encode: writes a sentence's pairs; its second argument is the order.
      decode: reads pairs from a target or a prediction about a sentence.
      unreadable: the aspects that the form cannot hold.
    """

    encode: Callable[..., str]
    decode: Callable[[str, str], list[tuple[str, str]]]
    unreadable: Callable[[LabelledSentence], list[LabelledAspect]]


ATSA = PairCodec(encode_targets, decode_targets, unreadable_targets)
ACSA = PairCodec(encode_categories, decode_categories, unreadable_categories)
