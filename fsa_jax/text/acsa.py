"""Category-sentiment pairs as text (ACSA): ``food quality | positive ; service general | negative``.

The form, the order of the pairs and the reading of predictions follow HITSZ-HLT/FSA-Distillation (evaluation/acsa.py).
"""

from __future__ import annotations

from fsa_jax.common.records import LabelledAspect, LabelledSentence
from fsa_jax.text.atsa import Order
from fsa_jax.text.pairs import read_pairs, readable, write_pairs


def category_text(category: str) -> str:
    """``FOOD#QUALITY`` as the targets have it: ``food quality``."""
    return category.lower().replace("#", " ")


def encode(sentence: LabelledSentence, order: Order = "position") -> str:
    """Writes a sentence's distinct categories and polarities in the order of the file, the first occurrence kept.

    Categories have no place in the sentence: both orders of the ATSA codec give the same text here. Aspects without a
    category are left out, and so are those that ``unreadable`` returns.
    """
    del order
    pairs = [
        (category_text(aspect.category), aspect.polarity)
        for aspect in sentence.aspects
        if aspect.category and readable(aspect.category)
    ]
    return write_pairs(dict.fromkeys(pairs))


def unreadable(sentence: LabelledSentence) -> list[LabelledAspect]:
    """Aspects whose category holds ``;`` or ``|``; none of the released files has any."""
    return [aspect for aspect in sentence.aspects if aspect.category is not None and not readable(aspect.category)]


def decode(text: str, sentence_text: str) -> list[tuple[str, str]]:
    """Reads (category, polarity) pairs from a target or a prediction by the released rule; never raises.

    The sentence plays no part, since a category need not stand in it; it is taken so that both codecs read alike.
    """
    del sentence_text
    return read_pairs(text)
