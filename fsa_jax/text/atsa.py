"""Target-sentiment pairs as text (ATSA): ``bread | positive ; service | negative``.

The form, the order of the pairs and the reading of predictions follow HITSZ-HLT/FSA-Distillation (evaluation/atsa.py).
"""

from __future__ import annotations

from typing import Literal

from fsa_jax.common.records import LabelledAspect, LabelledSentence
from fsa_jax.text.pairs import read_pairs, readable, write_pairs

Order = Literal["position", "released"]


def encode(sentence: LabelledSentence, order: Order = "position") -> str:
    """Writes a sentence's targets and polarities.

    One pair for each distinct (term, polarity, start, end); aspects without a target are left out, and so are those
    that ``unreadable`` returns. Pairs with equal offsets keep the order of the file.

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


def unreadable(sentence: LabelledSentence) -> list[LabelledAspect]:
    """Aspects whose term holds ``;`` or ``|``, the form's own marks; none of the released files has any."""
    return [aspect for aspect in sentence.aspects if aspect.target is not None and not readable(aspect.target)]


def decode(text: str, sentence_text: str) -> list[tuple[str, str]]:
    """Reads (term, polarity) pairs from a target or a prediction; never raises.

    Released rule: a part counts if it has exactly one ``|``, a polarity of the four, and a term that is a substring of
    the sentence. Duplicates are kept, since they count against precision.
    """
    return [(term, polarity) for term, polarity in read_pairs(text) if term in sentence_text]
