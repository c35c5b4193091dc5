"""Statistics of a check, added up row by row: rates by teacher and prompt, distributions, and example rows."""

from __future__ import annotations

import heapq
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from fsa_jax.checking.assess import CheckedGeneration

LENGTH_BIN = 25
"""Words per bar of the length plots."""
MAX_LENGTH = 600
"""Longer texts are counted in the bar of this length."""
SHARE_BINS = 20
EXAMPLES = 12
EXAMPLES_BY_REASON = 3
EXAMPLE_CHARACTERS = 1500
EXAMPLE_INVENTION = 100


@dataclass
class Tally:
    """Counts for one teacher, prompt and form."""

    rows: int = 0
    verdicts: Counter[str] = field(default_factory=Counter)
    reasons: Counter[str] = field(default_factory=Counter)
    repairs: Counter[str] = field(default_factory=Counter)
    lost_opinions: Counter[str] = field(default_factory=Counter)
    checked: int = 0
    """Number of rows whose hallucination score could be computed."""
    hallucination: float = 0.0
    """Sum of their hallucination scores."""
    with_inventions: int = 0
    opinions: int = 0
    input_tokens: int = 0
    output_tokens: int = 0

    def add(self, row: CheckedGeneration) -> None:
        self.rows += 1
        self.verdicts[row.verdict] += 1
        if row.reason is not None:
            self.reasons[row.reason] += 1
        self.repairs.update(row.repairs)
        self.lost_opinions.update(row.lost_opinions)
        if row.hallucination is not None:
            self.checked += 1
            self.hallucination += row.hallucination
            self.with_inventions += bool(row.inventions)
        self.opinions += len(row.grounding)
        self.input_tokens += row.generation.input_tokens or 0
        self.output_tokens += row.generation.output_tokens or 0

    @property
    def hallucination_rate(self) -> float | None:
        """Mean hallucination score; None if no row could be checked."""
        return self.hallucination / self.checked if self.checked else None


@dataclass(frozen=True, order=True)
class Example:
    """An example row for the report; ``rank`` sorts examples, the worst last."""

    rank: tuple[float, int]
    reason: str = field(compare=False)
    understanding: str = field(compare=False)
    teacher: str = field(compare=False)
    review_id: str = field(compare=False)
    stars: float | None = field(compare=False)
    review: str = field(compare=False)
    text: str = field(compare=False)
    inventions: tuple[str, ...] = field(compare=False)

    @classmethod
    def of(cls, row: CheckedGeneration, rank: tuple[float, int]) -> Example:
        return cls(
            rank,
            row.reason or ", ".join(row.repairs) or "kept",
            row.generation.understanding,
            row.generation.teacher,
            row.review.id,
            row.review.stars,
            row.review.text[:EXAMPLE_CHARACTERS],
            (row.generation.text or "")[:EXAMPLE_CHARACTERS],
            tuple(invention[:EXAMPLE_INVENTION] for invention in row.inventions[:20]),
        )


class Statistics:
    """Adds up checked generations; its memory does not depend on their number."""

    def __init__(self):
        self.tallies: dict[tuple[str, str, str], Tally] = {}
        """Tally by teacher, form and prompt hash."""
        self.skipped: Counter[str] = Counter()
        """Number of rows without a readable review, or about another text of their review, by reason."""
        self.unused_reviews: Counter[str] = Counter()
        """Number of reviews (not generations) that were left out, by reason."""
        self.stars: dict[str, Counter[str]] = {}
        """Verdicts by rounded star rating ("none" for reviews without a rating)."""
        self.lengths: dict[str, Counter[int]] = {}
        """Number of words of kept responses by form, in bins of LENGTH_BIN."""
        self.sentiments: Counter[str] = Counter()
        self.grounding: Counter[str] = Counter()
        self.hallucination: dict[str, Counter[int]] = {}
        """Hallucination scores by form, in SHARE_BINS bins."""
        self.stars_gaps: dict[str, Counter[int]] = {}
        self.by_reason: dict[str, list[Example]] = {}
        self._worst: list[Example] = []
        self._seen = 0

    def add(self, row: CheckedGeneration) -> None:
        self._seen += 1
        generation = row.generation
        key = (generation.teacher, generation.understanding, generation.prompt_hash)
        self.tallies.setdefault(key, Tally()).add(row)
        stars = "none" if row.review.stars is None else str(round(row.review.stars))
        self.stars.setdefault(stars, Counter())[row.verdict] += 1
        self.sentiments.update(row.sentiments)
        self.grounding.update(row.grounding)
        form = generation.understanding
        if row.verdict != "drop":
            words = min(len(row.response.split()), MAX_LENGTH)
            self.lengths.setdefault(form, Counter())[words // LENGTH_BIN] += 1
        if row.hallucination is not None:
            self.hallucination.setdefault(form, Counter())[_bin(row.hallucination)] += 1
        if row.stars_gap is not None:
            self.stars_gaps.setdefault(form, Counter())[_bin(row.stars_gap)] += 1
        self._example(row)

    def _example(self, row: CheckedGeneration) -> None:
        # The row's number breaks ties, so that the examples depend on the order of the rows only.
        rank = (row.hallucination or 0.0, -self._seen)
        if row.reason is not None:
            examples = self.by_reason.setdefault(row.reason, [])
            if len(examples) < EXAMPLES_BY_REASON:
                examples.append(Example.of(row, rank))
        if row.inventions:
            example = Example.of(row, rank)
            if len(self._worst) < EXAMPLES:
                heapq.heappush(self._worst, example)
            elif example > self._worst[0]:
                heapq.heapreplace(self._worst, example)

    @property
    def worst(self) -> list[Example]:
        """Rows with the highest hallucination scores, worst first."""
        return sorted(self._worst, reverse=True)

    @property
    def rows(self) -> int:
        return self._seen

    def verdicts(self) -> Counter[str]:
        return sum((tally.verdicts for tally in self.tallies.values()), Counter())

    def reasons(self) -> Counter[str]:
        return sum((tally.reasons for tally in self.tallies.values()), Counter())

    def repairs(self) -> Counter[str]:
        return sum((tally.repairs for tally in self.tallies.values()), Counter())

    def as_json(self) -> dict[str, Any]:
        """Everything except the text of the examples, for JSON."""
        return {
            "rows": self.rows,
            "skipped": dict(self.skipped.most_common()),
            "unused_reviews": dict(self.unused_reviews.most_common()),
            "verdicts": dict(self.verdicts().most_common()),
            "reasons": dict(self.reasons().most_common()),
            "repairs": dict(self.repairs().most_common()),
            "sentiments": dict(self.sentiments.most_common()),
            "grounding": dict(self.grounding.most_common()),
            "by_teacher": [
                {
                    "teacher": teacher,
                    "understanding": understanding,
                    "prompt_hash": prompt,
                    "rows": tally.rows,
                    "verdicts": dict(tally.verdicts.most_common()),
                    "reasons": dict(tally.reasons.most_common()),
                    "repairs": dict(tally.repairs.most_common()),
                    "lost_opinions": dict(tally.lost_opinions.most_common()),
                    "opinions": tally.opinions,
                    "hallucination_rate": tally.hallucination_rate,
                    "rows_with_inventions": tally.with_inventions,
                    "input_tokens": tally.input_tokens,
                    "output_tokens": tally.output_tokens,
                }
                for (teacher, understanding, prompt), tally in sorted(self.tallies.items())
            ],
        }


def _bin(share: float) -> int:
    return min(int(share * SHARE_BINS), SHARE_BINS - 1)
