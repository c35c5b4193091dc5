"""Predictions of a student about a review, as records."""

from __future__ import annotations

from typing import Literal, get_args

from fsa_jax.common.records import LabelledAspect, Opinion, Record
from fsa_jax.text import analysis
from fsa_jax.text.pairs import ACSA, ATSA

Task = Literal["atsa", "acsa", "analysis", "rewriting"]
TASKS: tuple[str, ...] = get_args(Task)
LONGEST_OUTPUT = {"atsa": 100, "acsa": 100, "analysis": 400, "rewriting": 400}
"""Output length in tokens: fine-tuned students decode up to 100, distilled ones were trained on up to 400 (arXiv
2412.18552)."""


class Prediction(Record):
    """One prediction.

    ``aspects`` is set by the tasks atsa (target, polarity, offsets) and acsa (category, polarity), ``opinions`` by
    analysis. ``generated`` is the text of the student; for rewriting it is the only result.
    """

    id: str
    text: str
    aspects: tuple[LabelledAspect, ...] = ()
    opinions: tuple[Opinion, ...] = ()
    generated: str
    score: float
    """Log-probability of the generated text; with several beams, divided by the number of tokens."""
    cut: bool = False
    """Whether the review was too long for the student and was cut."""


def read_prediction(task: Task, id: str, text: str, generated: str, score: float, cut: bool) -> Prediction:
    """Parses generated text with the task's codec. Parts that it cannot parse are left out, as in scoring."""
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
    """Aspect terms with offsets. A repeated term gets its next occurrence each time, or the last one again."""
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
