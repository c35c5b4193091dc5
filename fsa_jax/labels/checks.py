"""Checks raw labels against their sentences: polarities, terms, offsets, opinion words."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import NamedTuple, cast

from fsa_jax.common.records import POLARITIES, LabelledAspect, Polarity
from fsa_jax.labels.raw import RawLabel, RawSentence, UnusableLabels, named

_WORDS: dict[str, Polarity] = {
    "positive": "positive",
    "pos": "positive",
    "+": "positive",
    "negative": "negative",
    "neg": "negative",
    "-": "negative",
    "neutral": "neutral",
    "neu": "neutral",
    "conflict": "conflict",
    "conf": "conflict",
}
_FROM_MINUS_ONE: dict[str, Polarity] = {"-1": "negative", "0": "neutral", "1": "positive"}
_FROM_ZERO: dict[str, Polarity] = {"0": "negative", "1": "neutral", "2": "positive"}
_LONGEST = 200
"""Longest category or id; longer ones are the rest of a broken line. Longer terms must be as the sentence has them."""

OTHER_FORM = "terms or opinion words whose capitals or blanks differ from the sentence's, which were taken"
DUPLICATES = "labels that are in their sentence twice"
UNUSABLE = "labels whose term or opinion words are not in their sentence"
WRONG_OFFSETS = "offsets of another text than their term, which were searched anew"


class CheckedLabel(NamedTuple):
    """A label, and whether its data say which term it is about (see ``RawLabel.has_target``)."""

    aspect: LabelledAspect
    has_target: bool


class CheckedSentence(NamedTuple):
    """A sentence with its checked labels; ``id`` is None if the file has none."""

    line: int
    id: str | None
    text: str
    labels: tuple[CheckedLabel, ...]


def polarities_of(words: Iterable[str]) -> Mapping[str, Polarity]:
    """What the polarities of a dataset mean; numbers can only be understood together.

    Args:
      words: all polarities of the dataset, as written.

    Raises:
      UnusableLabels: numbers are neither from -1 to 1 nor from 0 to 2, or could be both. Its ``line`` is None.
    """
    found = {_plain(word) for word in words}
    numbers = {word for word in found if re.fullmatch(r"-?\d+(?:\.0)?", word, re.ASCII)}
    if not numbers:
        return _WORDS
    whole = {word.removesuffix(".0") for word in numbers}
    expected = "numbers from -1 (negative) to 1, or from 0 (negative) to 2 (positive), as polarities, or words"
    listed = ", ".join(sorted(numbers))[:80]
    if "-1" in whole and whole <= _FROM_MINUS_ONE.keys():
        scheme = _FROM_MINUS_ONE
    elif {"0", "2"} <= whole <= _FROM_ZERO.keys():
        scheme = _FROM_ZERO
    elif whole <= _FROM_ZERO.keys():
        raise UnusableLabels(None, expected, f"only {listed}, which have several meanings")
    else:
        raise UnusableLabels(None, expected, listed)
    return {**_WORDS, **scheme, **{f"{number}.0": polarity for number, polarity in scheme.items()}}


def _plain(word: str) -> str:
    """A polarity in lower case, a number without a plus sign."""
    return word.strip().lower().removeprefix("+") or "+"


class Checker:
    """Checks the sentences of a dataset.

    Args:
      polarities: from :func:`polarities_of`.
      lenient: whether labels whose term is not in the sentence are left out, and wrong offsets searched anew; both are
        counted. Otherwise they are errors.

    Attributes:
      counts: what was changed or left out, by a few fixed words.
    """

    def __init__(self, polarities: Mapping[str, Polarity], lenient: bool = False) -> None:
        self._polarities = polarities
        self._lenient = lenient
        self.counts: Counter[str] = Counter()

    def sentence(self, raw: RawSentence) -> CheckedSentence:
        """The sentence with its labels, each once.

        Raises:
          UnusableLabels: a label does not fit its sentence.
        """
        if raw.id is not None and len(raw.id) > _LONGEST:
            raise UnusableLabels(raw.line, f"an id of at most {_LONGEST} characters", f"{len(raw.id):,}")
        labels: dict[CheckedLabel, None] = {}
        for label in raw.labels:
            checked = self._label(label, raw.text)
            if checked is None:
                self.counts[UNUSABLE] += 1
            elif checked in labels:
                self.counts[DUPLICATES] += 1
            else:
                labels[checked] = None
        return CheckedSentence(raw.line, raw.id, raw.text, tuple(labels))

    def _label(self, raw: RawLabel, text: str) -> CheckedLabel | None:
        polarity = self._polarities.get(_plain(raw.polarity or ""))
        if polarity is None:
            expected = f"a polarity of {', '.join(POLARITIES)} (or POS, NEG, NEU)"
            raise UnusableLabels(raw.line, expected, repr(raw.polarity))
        category = named(raw.category)
        if category is not None and (len(category) > _LONGEST or not category.isprintable()):
            raise UnusableLabels(raw.line, f"a category of at most {_LONGEST} printable characters", repr(category))
        if raw.problem is not None:
            if self._lenient:
                return None
            raise UnusableLabels(raw.line, *raw.problem)
        if not raw.has_target and category is None:
            raise UnusableLabels(raw.line, "a term or a category in each label", "neither")
        target, start, end = named(raw.target), None, None
        opinions = None if raw.opinions is None else [word for word in map(named, raw.opinions) if word]
        try:
            if target is not None:
                target, start, end = self._place(target, raw, text)
            if opinions is not None:
                opinions = [self._found(word, raw, text, "opinion words")[0] for word in opinions]
        except UnusableLabels:
            if self._lenient:
                return None
            raise
        return CheckedLabel(
            LabelledAspect(
                target=target,
                category=category,
                polarity=cast(Polarity, polarity),
                start=start,
                end=end,
                opinion_words=None if opinions is None else tuple(opinions),
            ),
            raw.has_target,
        )

    def _place(self, target: str, raw: RawLabel, text: str) -> tuple[str, int, int]:
        """The term as the sentence writes it, and its offsets: those of the file, or of its first occurrence."""
        start, end = raw.start, raw.end
        if start is None and end is None:
            return self._found(target, raw, text, "a term")
        if start is None or end is None:
            raise UnusableLabels(raw.line, "both offsets of a term, or none", "one of them")
        if end < start and not self._lenient:
            raise UnusableLabels(raw.line, "offsets from before to", f"from {start} to {end}")
        covered = text[start:end]
        if covered.strip() == target:
            start += len(covered) - len(covered.lstrip())
            return target, start, start + len(target)
        if covered.strip().lower() == target.lower():
            self.counts[OTHER_FORM] += 1
            start += len(covered) - len(covered.lstrip())
            return covered.strip(), start, start + len(covered.strip())
        if not self._lenient:
            found = f"{covered[:60]!r} from {start} to {end}, and {target[:60]!r} as the term"
            raise UnusableLabels(raw.line, "the offsets of the term in its sentence", found)
        self.counts[WRONG_OFFSETS] += 1
        return self._found(target, raw, text, "a term")

    def _found(self, words: str, raw: RawLabel, text: str, what: str) -> tuple[str, int, int]:
        at = text.find(words)
        if at >= 0:
            return words, at, at + len(words)
        # Many published files have terms of the text before it was split into words: "can't" where it has "ca n't".
        letters = "".join(words.split())
        pattern = r"\s*".join(map(re.escape, letters))
        match = re.search(pattern, text, re.IGNORECASE) if len(letters) <= _LONGEST else None
        if match is None:
            raise UnusableLabels(raw.line, f"{what} of the sentence", f"{words[:60]!r} in {text[:120]!r}")
        self.counts[OTHER_FORM] += 1
        return match[0], match.start(), match.end()
