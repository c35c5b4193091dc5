"""The paper's subsets of a test set (arXiv 2412.18552)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal, get_args

from fsa_base.errors import DataError, SettingError
from fsa_jax.common.records import LabelledSentence

Subset = Literal["all", "original", "hard", "implicit", "multi"]
SUBSETS: tuple[str, ...] = get_args(Subset)


def select(sentences: Iterable[LabelledSentence], subset: Subset) -> list[LabelledSentence]:
    """Keeps the sentences of a subset, in their order.

    Args:
      sentences: sentences of a test set, original and hard ones.
      subset: name of the subset. "all": all sentences. "original" and "hard": by the file of the sentence. "implicit":
        sentences with at least one aspect without opinion words. "multi": sentences with more than one polarity.

    Raises:
      SettingError: there is no such subset.
      DataError: "implicit" was asked for sentences without annotated opinion words (only test files have them).
    """
    if subset not in SUBSETS:
        raise SettingError(
            "subset", expected=f"one of {', '.join(SUBSETS)}", found=repr(subset), fix="name one of them"
        )
    return [sentence for sentence in sentences if _belongs(sentence, subset)]


def _belongs(sentence: LabelledSentence, subset: Subset) -> bool:
    if subset == "hard":
        return sentence.hard
    if subset == "original":
        return not sentence.hard
    if subset == "multi":
        return len({aspect.polarity for aspect in sentence.aspects}) > 1
    if subset == "implicit":
        for aspect in sentence.aspects:
            if aspect.opinion_words is None:
                raise DataError(
                    f"sentence {sentence.id}",
                    expected="annotated opinion words, which define the implicit subset",
                    found="none",
                    fix="select it from test.json and hard_test.json",
                )
        return any(not aspect.opinion_words for aspect in sentence.aspects)
    return True
