"""What a student says of a review, as records."""

from __future__ import annotations

from typing import Literal, get_args

from fsa_jax.common.records import LabelledAspect, Opinion, Record
from fsa_jax.text import analysis
from fsa_jax.text.pairs import ACSA, ATSA

Task = Literal["atsa", "acsa", "analysis", "rewriting"]
TASKS: tuple[str, ...] = get_args(Task)
LONGEST_OUTPUT = {"atsa": 100, "acsa": 100, "analysis": 400, "rewriting": 400}
"""Tokens: fine-tuned students decode up to 100, distilled ones were taught up to 400 (arXiv 2412.18552)."""


class Prediction(Record):
    """One prediction.

    ``aspects`` is filled by the tasks atsa (target, polarity, offsets) and acsa (category, polarity), ``opinions`` by
    analysis; ``generated`` is the student's own text, all there is for rewriting.
    """

    id: str
    text: str
    aspects: tuple[LabelledAspect, ...] = ()
    opinions: tuple[Opinion, ...] = ()
    generated: str
    score: float
    """Log-probability of the generated text under the student; with beams, per token."""
    cut: bool = False
    """The review was longer than the input that the student takes."""


def read_prediction(task: Task, id: str, text: str, generated: str, score: float, cut: bool) -> Prediction:
    """Reads generated text by the task's codec; parts that the codec does not know are left out, as in scoring."""
    aspects: tuple[LabelledAspect, ...] = ()
    opinions: tuple[Opinion, ...] = ()
    if task == "atsa":
        aspects = tuple(_located(ATSA.decode(generated, text), text))
    elif task == "acsa":
        pairs = ACSA.decode(generated, text)
        aspects = tuple(LabelledAspect.model_validate({"category": name, "polarity": p}) for name, p in pairs)
    elif task == "analysis":
        opinions = tuple(parsed.opinion for parsed in analysis.parse(generated).opinions)
    return Prediction(
        id=id, text=text, aspects=aspects, opinions=opinions, generated=generated, score=round(score, 4), cut=cut
    )


def _located(pairs: list[tuple[str, str]], text: str) -> list[LabelledAspect]:
    """Terms with offsets: the first time a term is named it is its first occurrence, then its next, then its last."""
    seen: dict[str, int] = {}
    found = []
    for term, polarity in pairs:
        start = text.find(term, seen.get(term, -1) + 1)
        start = seen[term] if start < 0 else start
        seen[term] = start
        found.append(
            LabelledAspect.model_validate(
                {"target": term, "polarity": polarity, "start": start, "end": start + len(term)}
            )
        )
    return found
