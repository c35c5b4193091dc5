"""Predictions of a student about a review, as records."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import takewhile
from typing import Any, Literal, NamedTuple, get_args

from fsa_jax.common.records import LabelledAspect, Opinion, Record
from fsa_jax.text import analysis
from fsa_jax.text.pairs import SEPARATOR, Codec
from fsa_jax.text.tuples import CODECS, NULL

Task = Literal["atsa", "acsa", "tasd", "asqp", "analysis", "rewriting"]
TASKS: tuple[str, ...] = get_args(Task)
PAIR_TASKS: Mapping[str, Codec] = CODECS
"""Tasks whose predictions have aspects, with the codec that reads them: pairs, and also triples and quadruples."""
LONGEST_OUTPUT = {"atsa": 100, "acsa": 100, "tasd": 160, "asqp": 200, "analysis": 400, "rewriting": 400}
"""Output length in tokens: students fine-tuned on pairs decode up to 100, distilled ones were trained on up to 400
(arXiv 2412.18552); ``fsa train`` trains on as many of triples and quadruples as here."""
NO_TEXT = "no text"


class Output(NamedTuple):
    """What a student wrote about one input.

    Attributes:
      ids: token ids, including the end token if it was reached.
      score: log-probability of all tokens; with several beams, divided by their number.
      log_probs: log-probability of each token, given the input and the tokens before it; empty if not computed.
    """

    ids: list[int]
    score: float
    log_probs: list[float]


class PredictedAspect(LabelledAspect):
    """An aspect that a student predicts."""

    log_probability: float | None = None
    """Log-probability of the tokens that spell the aspect's tuple, summed; docs/serving.md defines which these are."""


class Prediction(Record):
    """One prediction.

    ``aspects`` is set by the tasks atsa (target, polarity, offsets), acsa (category, polarity), tasd (all of them) and
    asqp (opinion words too), ``opinions`` by analysis. ``generated`` is the text of the student; for rewriting it is
    the only result.
    """

    id: str
    text: str
    aspects: tuple[PredictedAspect, ...] = ()
    opinions: tuple[Opinion, ...] = ()
    generated: str
    score: float | None
    """Log-probability of the generated text; with several beams, divided by the number of tokens. None if nothing was
    predicted."""
    cut: bool = False
    """Whether the review was too long for the student and was cut."""
    error: str | None = None
    """Why nothing was predicted: ``no text``. None if the student has answered."""


def without_text(id: str, text: str) -> Prediction:
    """The prediction for a review without text, about which the student is not asked."""
    return Prediction(id=id, text=text, generated="", score=None, error=NO_TEXT)


def read_prediction(
    task: Task,
    id: str,
    text: str,
    generated: str,
    score: float,
    cut: bool,
    log_probability: Callable[[int, int], float] | None = None,
) -> Prediction:
    """Parses generated text with the task's codec. Parts that it cannot parse are left out, as in scoring.

    Args:
      task: task of the student.
      id: id of the review.
      text: the review.
      generated: text of the student.
      score: log-probability of the generated text.
      cut: whether the review was cut.
      log_probability: function that returns the log-probability of a span (start, end) of ``generated``.
    """
    aspects: list[PredictedAspect] = []
    opinions: tuple[Opinion, ...] = ()
    if task in PAIR_TASKS:
        last: dict[str, int] = {}
        codec = PAIR_TASKS[task]
        for parts, span in _tuples(codec, generated, text):
            fields = _fields(dict(zip(codec.parts, parts, strict=True)), text, last)
            scored = round(log_probability(*span), 4) + 0.0 if log_probability else None  # no -0.0
            aspects.append(PredictedAspect.model_validate({**fields, "log_probability": scored}))
    elif task == "analysis":
        opinions = tuple(parsed.opinion for parsed in analysis.parse(generated).opinions)
    return Prediction(
        id=id,
        text=text,
        aspects=tuple(aspects),
        opinions=opinions,
        generated=generated,
        score=round(score, 4),
        cut=cut,
    )


def _tuples(codec: Codec, generated: str, text: str) -> Iterator[tuple[tuple[str, ...], tuple[int, int]]]:
    """Tuples with their spans: from the separator before a tuple (or the beginning) to its last character."""
    start = 0
    for part in generated.split(SEPARATOR):
        for parts in codec.decode(part, text):
            yield parts, (start, start + len(part.rstrip()))
        start += len(part) + len(SEPARATOR)


def _fields(parts: dict[str, str], text: str, last: dict[str, int]) -> dict[str, Any]:
    """The fields of an aspect. In triples and quadruples, NULL is a target or are opinion words that are not named."""
    fields: dict[str, Any] = dict(parts)
    if "opinion_words" in parts:
        fields["opinion_words"] = () if parts["opinion_words"] == NULL else (parts["opinion_words"],)
    if "target" in parts:
        implicit = "category" in parts and parts["target"] == NULL
        fields |= {"target": None} if implicit else _next_place(parts["target"], text, last)
    return fields


def _next_place(term: str, text: str, last: dict[str, int]) -> dict[str, str | int]:
    """A term with offsets. A repeated term gets its next occurrence each time, or the last one again."""
    start = text.find(term, last.get(term, -1) + 1)
    last[term] = start = last[term] if start < 0 else start
    return {"target": term, "start": start, "end": start + len(term)}


class SpanScorer:
    """Computes the log-probability of a span of a generated text: the sum over the tokens that write a part of it.

    Args:
      output: the output, with log-probabilities.
      decode: the tokenizer's function from ids to text.
      generated: the text of all ids.
    """

    def __init__(self, output: Output, decode: Callable[[Sequence[int]], str], generated: str) -> None:
        self._tokens: list[tuple[int, int, float]] = []
        start = 0
        for number, log_prob in enumerate(output.log_probs, start=1):
            so_far = decode(output.ids[:number])
            # A character of several bytes may need several tokens; until the last of them, the text ends otherwise.
            same = takewhile(bool, map(str.__eq__, so_far, generated))
            end = max(start, len(so_far) if generated.startswith(so_far) else sum(same))
            self._tokens.append((start, end, log_prob))
            start = end

    def __call__(self, start: int, end: int) -> float:
        """The log-probability of the span. A token that writes no character of its own belongs to the one after it."""
        return sum(
            log_prob
            for first, after, log_prob in self._tokens
            if first < end and (after > start or first == after == start)
        )
