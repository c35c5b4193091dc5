"""The nouns of the project: what flows from reviews to a scored student.

All records are immutable pydantic models, so that a bad value is refused where it enters.
"""

from __future__ import annotations

from typing import Any, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field

Polarity = Literal["positive", "neutral", "negative", "conflict"]
"""Polarities of the labelled FSA datasets."""
POLARITIES: tuple[str, ...] = get_args(Polarity)

Sentiment = Literal["very negative", "negative", "neutral", "positive", "very positive"]
"""The five-step scale that teacher sentiments ("Mildly Negative", "Mixed" …) are mapped to."""
SENTIMENTS: tuple[str, ...] = get_args(Sentiment)

Understanding = Literal["analysis", "rewriting"]
"""The two forms of teacher text (arXiv 2412.18552, section 3)."""
UNDERSTANDINGS: tuple[Understanding, ...] = get_args(Understanding)


class Record(BaseModel):
    """Base of all records: frozen, and unknown fields are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Review(Record):
    """One customer review as it came from its source."""

    id: str
    text: str
    stars: float | None = Field(default=None, ge=0, le=5)
    """Star rating, 1 to 5, halves allowed; None where the source has none."""
    domain: str | None = None
    """``restaurants``, ``computers`` or any other domain name; None where unknown."""


class Opinion(Record):
    """One sentiment understanding in a teacher's analysis: target, aspects, sentiment and reasoning."""

    target: str
    aspects: tuple[str, ...] = ()
    sentiment: Sentiment
    reasoning: str | None = None


class Generation(Record):
    """One answer of a teacher to one prompt about one review, or the reason why there is none."""

    review_id: str
    understanding: Understanding
    prompt_hash: str
    """Hash of the versioned prompt file that asked."""
    teacher: str
    teacher_revision: str | None = None
    sampling: dict[str, Any] = Field(default_factory=dict)
    """Sampling settings (temperature, top_p, max_tokens …)."""
    seed: int = 0
    sample: int = 0
    """Index among several samples of one prompt."""
    text: str | None = None
    """The teacher's text; None exactly where ``failure`` says why."""
    failure: str | None = None
    input_tokens: int | None = None
    output_tokens: int | None = None


class LabelledAspect(Record):
    """One gold label of a sentence. Offsets are in characters, end exclusive."""

    target: str | None = None
    """Aspect term as it stands in the sentence; None for no explicit target."""
    category: str | None = None
    """Aspect category as released (``FOOD#QUALITY``); None where the dataset has none."""
    polarity: Polarity
    start: int | None = None
    end: int | None = None
    opinion_words: tuple[str, ...] | None = None
    """None: not annotated. Empty: annotated and implicit (no opinion words)."""
    offsets_as_text: bool = False
    """The released file holds the offsets as strings, which its authors' code sorts as strings."""


class LabelledSentence(Record):
    """One sentence of an FSA dataset with all its gold labels, in the order of the file."""

    id: str
    text: str
    aspects: tuple[LabelledAspect, ...] = ()
    hard: bool = False
    """From the paper's hard test set."""
