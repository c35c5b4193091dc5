"""Category-sentiment pairs as text (ACSA): ``food quality | positive ; service general | negative``.

The format, the order of the pairs and the parsing of predictions follow HITSZ-HLT/FSA-Distillation
(evaluation/acsa.py).
"""

from __future__ import annotations

from fsa_jax.records import LabelledAspect, LabelledSentence
from fsa_jax.text.atsa import Order
from fsa_jax.text.pairs import read_pairs, readable, write_pairs


def category_text(category: str) -> str:
    """The text of a category in targets: ``food quality`` for ``FOOD#QUALITY``."""
    return category.lower().replace("#", " ")


def encode(sentence: LabelledSentence, order: Order = "position") -> str:
    """Writes a sentence's distinct (category, polarity) pairs in the order of the file.

    Categories have no offsets in the sentence, so both values of ``order`` give the same text. Aspects without a
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
    """Aspects whose category contains ``;`` or ``|``; the released files have none."""
    return [aspect for aspect in sentence.aspects if aspect.category is not None and not readable(aspect.category)]


def decode(text: str, sentence_text: str) -> list[tuple[str, str]]:
    """Parses (category, polarity) pairs of a target or a prediction by the released rule; never raises an error.

    ``sentence_text`` is not used, because a category need not occur in the sentence. It is there so that both codecs
    have the same arguments.
    """
    del sentence_text
    return read_pairs(text)
