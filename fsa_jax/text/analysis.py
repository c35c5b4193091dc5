"""Parses and writes the teacher's analysis text and its opinions (arXiv 2412.18552, section 3).

This is the format of the released teacher text. A blank line separates the targets, and a target may have several
groups of aspect, sentiment and reasoning:

    Opinion Target 1: "pizza"
    Aspect: Food, Quality/Taste
    Sentiment: Very Positive
    Reasoning: The word "delicious" conveys a very positive sentiment.

The parser accepts many spellings of the labels, but keeps an opinion only if it has a target and a sentiment that maps
to the five-step scale. Dropped parts are returned with their reasons.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Literal

from fsa_jax.common.records import SENTIMENTS, Opinion, Sentiment

DropReason = Literal["no target", "no sentiment", "unknown sentiment", "repeated"]


@dataclass(frozen=True)
class ParsedOpinion:
    """An opinion and the position of its target in the parsed text: ``text[start:end] == opinion.target``."""

    opinion: Opinion
    start: int
    end: int


@dataclass(frozen=True)
class Dropped:
    """A part of an analysis without a usable opinion.

    Args:
      reason: why the part was dropped.
      target: target of the part; may be empty.
      found: text found as the sentiment; may be empty.
      start: offset of the part in the parsed text.
    """

    reason: DropReason
    target: str
    found: str
    start: int


@dataclass(frozen=True)
class Analysis:
    """The content of an analysis text, in order. ``ignored`` are lines without a label that belong to no opinion."""

    opinions: tuple[ParsedOpinion, ...] = ()
    dropped: tuple[Dropped, ...] = ()
    ignored: tuple[str, ...] = ()


def write(opinions: Iterable[Opinion]) -> str:
    """Writes opinions in the released format. If an opinion has no aspects or no reasoning, their line is left out.

    Line ends and double quotes delimit the fields. So white space is collapsed to single spaces, and double quotes in a
    target become single quotes.
    """
    blocks = []
    for number, opinion in enumerate(opinions, start=1):
        lines = [f'Opinion Target {number}: "{_one_line(opinion.target.replace(chr(34), chr(39)))}"']
        if opinion.aspects:
            lines.append(f"Aspect: {_one_line(', '.join(opinion.aspects))}")
        lines.append(f"Sentiment: {opinion.sentiment.title()}")
        if opinion.reasoning:
            lines.append(f"Reasoning: {_one_line(opinion.reasoning)}")
        blocks.append("\n".join(lines))
    return "\n\n".join(blocks)


def parse(text: str) -> Analysis:
    """Parses an analysis text of a student or a teacher; never raises an error.

    Text about another, invented review is not recognised here; ``fsa_jax.checking`` removes it before.
    """
    opinions: list[ParsedOpinion] = []
    dropped: list[Dropped] = []
    ignored: list[str] = []
    seen: set[tuple[str, tuple[str, ...], str]] = set()
    for group in _groups(text, ignored):
        sentiment = parse_sentiment(group.sentiment)
        target = text[group.start : group.end]
        if not target:
            dropped.append(Dropped("no target", "", group.sentiment, group.start))
        elif not group.sentiment or _NO_SENTIMENT.match(group.sentiment):
            dropped.append(Dropped("no sentiment", target, group.sentiment, group.start))
        elif sentiment is None:
            dropped.append(Dropped("unknown sentiment", target, group.sentiment, group.start))
        else:
            opinion = Opinion(
                target=target,
                aspects=parse_aspects(group.aspect),
                sentiment=sentiment,
                reasoning=" ".join(group.reasoning_lines) or None,
            )
            key = (target.lower(), opinion.aspects, sentiment)
            if key in seen:
                dropped.append(Dropped("repeated", target, group.sentiment, group.start))
                continue
            seen.add(key)
            opinions.append(ParsedOpinion(opinion, group.start, group.end))
    return Analysis(tuple(opinions), tuple(dropped), tuple(ignored))


def is_analysis(text: str) -> bool:
    """Whether the text is an analysis and not a rewriting; in the released file both are in the ``*_response`` column.

    The first non-blank line decides. This is right for all 400 rows of the released test file (183 are analyses).
    """
    first = next((line for line in text.splitlines() if line.strip()), "")
    label = _LABEL.match(first)
    return bool(label and _kind(label) in ("target", "aspect", "sentiment"))


_STRONG = {"very", "strong", "strongly", "extremely", "highly", "overwhelmingly"}
_WEAK = {
    "mild",
    "mildly",
    "slight",
    "slightly",
    "somewhat",
    "weak",
    "weakly",
    "moderate",
    "moderately",
    "near",
    "fairly",
}
_POSITIVE = {"positive", "pos", "positively"}
_NEGATIVE = {"negative", "neg", "negatively"}
_MIDDLE = {"neutral", "mixed", "ambivalent"}
_NEITHER = {"unspecified", "sentiment", "to", "and", "or"}
_NO_SENTIMENT = re.compile(
    r"^\W*(?:not (?:applicable|specified|mentioned|discussed|stated|clear)|n/?a|none|no sentiment|undetermined|unclear|"
    r"unspecified|unknown)\b(?!\s*/)",
    re.IGNORECASE,
)


def parse_sentiment(label: str) -> Sentiment | None:
    """Maps a teacher's sentiment label to the five-step scale; None if it is not a sentiment label.

    Example:
      >>> parse_sentiment("Strongly Positive"), parse_sentiment("Mild"), parse_sentiment("Food")
      ('very positive', 'neutral', None)

    The released text calls the middle step "mild sentiment": "Mild", "Mild Sentiment", "Mixed" and "Positive and
    Negative" are neutral; "Mildly Negative" and "Negative (Mild)" are negative. Every word must be known, so that "Very
    Negative for the food, Very Positive for the staff" is not mapped to one of the two.
    """
    words = re.findall(r"[a-z]+", re.sub(r"(?<=[a-z])(?=[A-Z])", " ", label).lower())
    known = _STRONG | _WEAK | _POSITIVE | _NEGATIVE | _MIDDLE | _NEITHER
    if not words or not set(words) <= known:
        return None
    positive, negative = not _POSITIVE.isdisjoint(words), not _NEGATIVE.isdisjoint(words)
    if (positive and negative) or not _MIDDLE.isdisjoint(words):
        return "neutral"
    strong = not _STRONG.isdisjoint(words)
    if positive:
        return "very positive" if strong else "positive"
    if negative:
        return "very negative" if strong else "negative"
    return None if _WEAK.isdisjoint(words) else "neutral"


# Here and below ``*+`` and ``(?<!\s)`` make the time linear: a run of blanks is matched once, without backtracking.
_EXPLANATION = re.compile(
    r",\s++(?:i\.\s?e\.|e\.\s?g\.|refer|indicat|imply|implie|mean|which|whether|relat|denot|represent|consider|"
    r"describ|measur|involv|includ|pertain|regard|to represent|"
    r"in th|in terms|as |an? |the |how |what |where |such as|specifically|show|suggest|evaluat|assess)",
    re.IGNORECASE,
)


def parse_aspects(value: str) -> tuple[str, ...]:
    """Splits ``Food, Quality/Taste`` at its commas; explanations ("Fit, referring to how …", "(…)") are left out."""
    value = re.sub(r"(?<!\s)\s*+\([^)]*+(?:\)|$)", "", value)
    # An explanation follows a comma, so "Attention to the Details" has none.
    explanation = _EXPLANATION.search(value)
    if explanation:
        value = value[: explanation.start()].rstrip()
    parts = (part.strip(" \t\"'.[]*") for part in value.split(","))
    return tuple(part for part in parts if part)


@dataclass
class _Group:
    """One target with one aspect, sentiment and reasoning, not yet interpreted; ``start:end`` is the target's span."""

    start: int
    end: int
    aspect: str = ""
    sentiment: str = ""
    reasoning_lines: list[str] = field(default_factory=list)
    filled: set[str] = field(default_factory=set)


# Matches "1. **Opinion Target 2** (implicit): …", "- Aspect 1: …", "Sententiment: …". Cut-off text may lack the colon.
_LABEL = re.compile(
    r"^[\s\W\d]*+(?P<name>opinion\s++target|target|aspects?|senti?(?:enti)?ments?|reasoning|reason)s?"
    r"(?:\s*+\([^)]*+\))?+[\s*#]*+\d*+[\s*]*+(?:\([^)]*+\)\s*+)?+(?::[\s*]*+|$)",
    re.IGNORECASE,
)
_INNER_LABEL = re.compile(r"\s(?=(?:aspects?|sentiment|reasoning)\s*+\d*+\s*+:)", re.IGNORECASE)


def _kind(label: re.Match[str]) -> str:
    name = label["name"].lower()
    if "target" in name:
        return "target"
    return next(kind for kind in ("aspect", "sent", "reason") if name.startswith(kind)).replace("sent", "sentiment")


def _groups(text: str, ignored: list[str]) -> Iterator[_Group]:
    group: _Group | None = None
    open_field: str | None = None
    for offset, line in _lines(text):
        label = _LABEL.match(line)
        if label is None:
            # A reasoning may have several lines. After a blank line, a line without a label belongs to no opinion.
            if not line.strip():
                open_field = None
            elif group is not None and open_field == "reason":
                group.reasoning_lines.append(line.strip())
            else:
                ignored.append(line.strip())
            continue
        kind, value = _kind(label), line[label.end() :].strip()
        open_field = kind
        if kind == "target":
            if group is not None:
                yield group
            start, end = _target_span(line, label.end())
            group = _Group(offset + start, offset + end)
            continue
        if group is None:
            group = _Group(offset, offset)
        elif kind in group.filled or (kind == "aspect" and group.filled):
            yield group
            group = _Group(group.start, group.end)
        group.filled.add(kind)
        if kind == "reason":
            group.reasoning_lines = [value] if value else []
        else:
            setattr(group, kind, value)
    if group is not None:
        yield group


def _lines(text: str) -> Iterator[tuple[int, str]]:
    """Lines with their offsets; the line of a target is split if further labels follow on the same line."""
    offset = 0
    for line in text.split("\n"):
        label = _LABEL.match(line)
        begin = 0
        if label and _kind(label) == "target":
            for inner in _INNER_LABEL.finditer(line):
                yield offset + begin, line[begin : inner.start()]
                begin = inner.end()
        yield offset + begin, line[begin:]
        offset += len(line) + 1


_OPENING = re.compile(r"[\s\[(]*")


def _target_span(line: str, begin: int) -> tuple[int, int]:
    """The span of the target in its line: the first quoted words, or else all words before a parenthesis."""
    opening = _OPENING.match(line, begin)
    start = opening.end() if opening else begin
    end = _closing_quote(line, start)
    inside = line[start + 1 : end] if end is not None else ""
    if inside.strip():
        start += 1 + len(inside) - len(inside.lstrip())
        return start, start + len(inside.strip())
    value = line[begin:]
    opening = re.match(r"[\s\"'“”‘’\[(]*", value)
    start = opening.end() if opening else 0
    aside = value.find("(", start)
    end = aside if aside > start else len(value)
    return begin + start, begin + max(start, len(value[:end].rstrip(" \t\r\"'“”‘’])/.,;")))


def _closing_quote(line: str, start: int) -> int | None:
    """The end of the quotation that begins at ``start``; None if there is no quotation or it has no end.

    A single quote may be an apostrophe, so it closes a quotation only at the end of the line.
    """
    opening = line[start : start + 1]
    if opening in ('"', "“"):
        end = line.find({'"': '"', "“": "”"}[opening], start + 1)
        return None if end < 0 else end
    if opening == "'":
        end = len(line) - 1
        while end > start and (line[end].isspace() or line[end] in ",.;)]"):
            end -= 1
        return end if end > start and line[end] == "'" else None
    return None


def _one_line(value: str) -> str:
    return " ".join(value.split())


_VALUE = {sentiment: (index - 2) / 2 for index, sentiment in enumerate(SENTIMENTS)}


def lean(opinions: Sequence[Opinion]) -> float | None:
    """Mean sentiment of an analysis: "positive" and "very positive" both count as 1, and the negative ones as -1.

    Teachers often write "positive" where the reviewer gives five stars, so the difference between "positive" and "very
    positive" says little about the stars.
    """
    if not opinions:
        return None
    return sum(max(-1.0, min(1.0, 2 * _VALUE[opinion.sentiment])) for opinion in opinions) / len(opinions)
