"""Junk: text that real teachers write before, after or instead of the answer that they were asked for.

The released Mixtral text has these kinds, which are handled here: confidence lines at the end, headers, repeated
instructions of the prompt, notes to graders, JSON copies of the answer, and whole invented reviews with their own
analyses after the real one. Removing junk is a repair, counted by kind. If no text is left, the generation has a
defect.
"""

from __future__ import annotations

import re
import zlib
from collections import Counter
from dataclasses import dataclass

from fsa_jax.checking.grounding import sentences
from fsa_jax.common.records import Understanding

# Patterns start where a run of blanks or marks starts, and match it possessively (``*+``, no backtracking). Otherwise
# their time would grow with the square of a text's length (tests/faults/test_faults_regexes.py).
_CONFIDENCE = re.compile(
    r"((?<=\w)[^\w\n]*+\n|\A)(?:\W*+(?:confidence|certainty)\b[^\n:]{0,20}:[^\n]{0,40}$)+",
    re.IGNORECASE | re.MULTILINE,
)
_REFUSAL = re.compile(
    r"^\W*(?:i(?:'m| am) (?:sorry|unable|not able)|sorry,|as an ai\b|as a (?:large )?language model|"
    r"(?:unfortunately, )?i (?:cannot|can't|can not|won't) "
    r"(?:help|assist|fulfil|provide|comply|rewrite|analy[sz]e|generate|answer))",
    re.IGNORECASE,
)
_HEADER = re.compile(
    r"^\W*(?:(?:sure|certainly|of course|absolutely)\b[^\n]{0,80}[:!.]\s*\n|"
    r"(?:here(?:'s| is| are)|below is)\b[^\n]{0,120}:\s*\n?|"
    r"(?:rewritten (?:review|text|version)|rewrite|rewriting|revised review|response|answer|output|"
    r"your (?:output|answer)|first[- ]person (?:review|rewriting))\s*:\s*)",
    re.IGNORECASE,
)
_OTHER_REVIEW = re.compile(
    r"^\W*+(?:(?:first|second|third|next|another|new)?+\s*+(?:user |customer )?review\s*+\d*+\s*+(?::|-++\s*+$)|"
    r"example\s*+\d++\s*+:|let'?s (?:now )?analy[sz]e (?:another|the (?:next|following))\b|"
    r"consider the following reviews?\b|(?:user|human|assistant|instruction|question)\s*+\d*+\s*+:|your task\s*+:|"
    r"(?:(?<=##)|(?<=##\s)|(?<=##\s\s))(?:instruction|input|response)\b)",
    re.IGNORECASE,
)
_FIELD = re.compile(
    r"^[\W\d]*+(?:opinion targets?|aspects?|sentiments?|reasoning|reason)\b[\s\d]*+[^\w:(]*+[:(]", re.IGNORECASE
)
_BLOCK = re.compile(r"^[^\w\n]*+(?:\d++\W++)?+opinion target\b", re.IGNORECASE)
_TARGET_LINE = re.compile(r"(?<![\W\d])(?:\A|(?:[^\w\n]|\d)*+\n)()[\W\d]*+opinion target\b", re.IGNORECASE)
_REASONING = re.compile(r"reasoning\s*+:", re.IGNORECASE)
_WHOLE_REASONING = 5
"""A reasoning without a final full stop counts as complete if it has at least this many words."""
_ENDS = re.compile(r"[.!?…\"'”’)\]]\s*$")
_FIRST_PERSON = re.compile(r"\b(?:i|i'm|i've|i'd|me|my|mine|myself|we|we're|we've|us|our|ours)\b", re.IGNORECASE)
_THIRD_PERSON = re.compile(r"\bthe (?:reviewer|author|user|customer|writer)\b(?!s)", re.IGNORECASE)

LOOP_REPEATS = 4
"""A sentence of LOOP_WORDS words that occurs this often is a loop. Shorter sentences may repeat in normal text."""
LOOP_WORDS = 8
LOOP_COMPRESSION = 0.12
"""Text of 600 bytes or more is a loop if compression reduces it to this share; the released text stays above 0.25."""


@dataclass(frozen=True)
class Cleaned:
    """A teacher's text without junk.

    Args:
      text: the remaining text; may be empty.
      repairs: kinds of junk that were removed.
      defect: why the text cannot be used at all; None if it can be used.
    """

    text: str
    repairs: tuple[str, ...] = ()
    defect: str | None = None


def clean(text: str, understanding: Understanding, cut_off: bool = False) -> Cleaned:
    """Removes junk from a teacher's text.

    Args:
      text: text as the teacher wrote it.
      understanding: form that the teacher was asked for.
      cut_off: whether the engine reported that it stopped at its token limit.
    """
    if not any(character.isalnum() for character in text):
        return Cleaned("", defect="teacher answered nothing")
    if _REFUSAL.match(text):
        return Cleaned("", defect="refusal")
    text = text.replace("\r\n", "\n").replace("\r", "\n").strip()
    repairs: list[str] = []
    without = _CONFIDENCE.sub(r"\1", text).strip()
    if without != text:
        repairs.append("confidence line")
    body = _HEADER.sub("", without, count=1) if not _FIELD.match(without) else without
    if body != without:
        repairs.append("header")
    if _loops(body):
        return Cleaned("", tuple(repairs), "loop")
    cleaned = _analysis(body, cut_off) if understanding == "analysis" else _rewriting(body, cut_off)
    return Cleaned(cleaned.text, (*repairs, *cleaned.repairs), cleaned.defect)


def _paragraphs(text: str) -> list[str]:
    return [part.strip("\n") for part in re.split(r"\n[ \t]*\n+", text) if part.strip()]


def _analysis(text: str, cut_off: bool) -> Cleaned:
    """Keeps the lines with opinions, up to the first line that starts another review."""
    repairs: list[str] = []
    kept: list[str] = []
    # A paragraph may have several opinions: real teachers sometimes leave out the blank lines.
    ends = False
    for paragraph in _paragraphs(text):
        lines = []
        for line in paragraph.split("\n"):
            ends = _OTHER_REVIEW.match(line) is not None
            if ends:
                repairs.append("another review")
                break
            lines.append(line.rstrip())
        block = _opinion_lines(lines)
        if len(block) < len(lines):
            repairs.append("text around the opinions")
        if block:
            kept.append("\n".join(block))
        if ends:
            break
    if not kept:
        return Cleaned("", tuple(dict.fromkeys(repairs)), "no opinion")
    text = "\n\n".join(kept)
    if cut_off or not _ENDS.search(text):
        starts = [match.start(1) for match in _TARGET_LINE.finditer(text)]
        # A sentence without its full stop may still be complete; an opinion without its reasoning is not.
        last = text[starts[-1] :] if starts else text
        reasoning = _REASONING.search(last)
        words = last[reasoning.end() :].split(None, _WHOLE_REASONING) if reasoning else []
        if cut_off or len(words) < _WHOLE_REASONING:
            repairs.append("cut-off last opinion")
            text = text[: starts[-1]].rstrip() if starts else ""
            if not text:
                return Cleaned("", tuple(dict.fromkeys(repairs)), "cut off in its first opinion")
    return Cleaned(text, tuple(dict.fromkeys(repairs)))


def _opinion_lines(lines: list[str]) -> list[str]:
    """The lines from the first field on; a line without a field continues the field before it."""
    first = next((index for index, line in enumerate(lines) if _FIELD.match(line)), None)
    return [] if first is None else lines[first:]


def _rewriting(text: str, cut_off: bool) -> Cleaned:
    """Keeps the paragraphs before the first one that starts another review; drops an incomplete last sentence."""
    repairs: list[str] = []
    kept: list[str] = []
    for paragraph in _paragraphs(text):
        if _BLOCK.match(paragraph):
            return Cleaned("", tuple(repairs), "an analysis where a rewriting was asked")
        if _OTHER_REVIEW.match(paragraph):
            repairs.append("another review")
            break
        kept.append(paragraph)
    text = "\n\n".join(kept).strip()
    if len(text) > 1 and text[0] == text[-1] == '"' and '"' not in text[1:-1]:
        text = text[1:-1].strip()
        repairs.append("quotes around the whole")
    if text and not _ENDS.search(text):
        whole = re.search(r"^(.*[.!?][\"')\]]?)(?=\s)", text, re.DOTALL)
        text = whole[1].strip() if whole else text if not cut_off else ""
        if whole or cut_off:
            repairs.append("cut-off last sentence")
    if not text:
        return Cleaned("", tuple(repairs), "cut off in its first sentence" if cut_off else "nothing but junk")
    if _THIRD_PERSON.search(text) and not _FIRST_PERSON.search(text):
        return Cleaned("", tuple(repairs), "third person, about the reviewer")
    return Cleaned(text, tuple(repairs))


def _loops(text: str) -> bool:
    repeated = Counter(sentence.casefold() for sentence in sentences(text) if len(sentence.split()) >= LOOP_WORDS)
    if repeated and max(repeated.values()) >= LOOP_REPEATS:
        return True
    raw = text.encode()
    return len(raw) >= 600 and len(zlib.compress(raw)) / len(raw) <= LOOP_COMPRESSION
