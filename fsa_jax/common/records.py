"""The data records of the project, from reviews to predictions.

All records are immutable pydantic models, so that invalid values are refused when a record is created.
"""

from __future__ import annotations

from typing import Any, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field

Polarity = Literal["positive", "neutral", "negative", "conflict"]
"""Polarities of the labelled FSA datasets."""
POLARITIES: tuple[str, ...] = get_args(Polarity)

Sentiment = Literal["very negative", "negative", "neutral", "positive", "very positive"]
"""The five-step scale to which sentiments of teachers ("Mildly Negative", "Mixed" …) are mapped."""
SENTIMENTS: tuple[str, ...] = get_args(Sentiment)

Understanding = Literal["analysis", "rewriting"]
"""The two forms of teacher text (arXiv 2412.18552, section 3)."""
UNDERSTANDINGS: tuple[Understanding, ...] = get_args(Understanding)


class Record(BaseModel):
    """Base class of all records: immutable, and unknown fields are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Review(Record):
    """One customer review, unchanged from its source."""

    id: str
    text: str
    stars: float | None = Field(default=None, ge=0, le=5)
    """Star rating, 1 to 5, halves allowed; None if the source has none."""
    domain: str | None = None
    """``restaurants``, ``computers`` or any other domain name; None if unknown."""


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
    """Hash of the versioned prompt file."""
    teacher: str
    teacher_revision: str | None = None
    sampling: dict[str, Any] = Field(default_factory=dict)
    """Sampling settings (temperature, top_p, max_tokens …)."""
    seed: int = 0
    sample: int = 0
    """Index of the answer, if there are several to the same prompt."""
    text: str | None = None
    """The teacher's text; None if and only if ``failure`` is set."""
    failure: str | None = None
    input_tokens: int | None = None
    output_tokens: int | None = None


class LabelledAspect(Record):
    """One gold label of a sentence. Offsets are in characters, end exclusive."""

    target: str | None = None
    """Aspect term as written in the sentence; None if there is no explicit target."""
    category: str | None = None
    """Aspect category as released (``FOOD#QUALITY``); None if the dataset has none."""
    polarity: Polarity
    start: int | None = None
    end: int | None = None
    opinion_words: tuple[str, ...] | None = None
    """The annotated opinion words; empty if the aspect is implicit (has none), None if there is no annotation."""
    offsets_as_text: bool = False
    """Whether the offsets are strings in the released file; its authors' code sorts them as strings."""


class LabelledSentence(Record):
    """One sentence of an FSA dataset with all its gold labels, in the order of the file."""

    id: str
    text: str
    aspects: tuple[LabelledAspect, ...] = ()
    hard: bool = False
    """Whether the sentence is from the paper's hard test set."""
