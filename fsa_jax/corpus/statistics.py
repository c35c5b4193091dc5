"""Statistics of a corpus."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fsa_base.errors import DataError
from fsa_jax.corpus.held_out import HeldOut, review_hash
from fsa_jax.corpus.selection import Selection, files, selected

STATISTICS = "statistics.json"
"""File with the statistics in the folder of a corpus."""
LENGTH_PERCENTILES = (5, 50, 95)


@dataclass
class Part:
    """Statistics of one form and split."""

    rows: int = 0
    verdicts: Counter[str] = field(default_factory=Counter)
    stars: Counter[str] = field(default_factory=Counter)
    domains: Counter[str] = field(default_factory=Counter)
    teachers: Counter[str] = field(default_factory=Counter)
    opinions: int = 0
    review_words: Counter[int] = field(default_factory=Counter)
    response_words: Counter[int] = field(default_factory=Counter)
    hallucination: float = 0.0
    scored: int = 0
    implicit: Counter[int] = field(default_factory=Counter)
    """Number of rows by the share of sentences without opinion words, in tenths."""

    def add(self, row: dict[str, Any]) -> None:
        self.rows += 1
        self.verdicts[row["verdict"]] += 1
        self.stars["none" if math.isnan(row["stars"]) else f"{row['stars']:g}"] += 1
        self.domains[row["domain"] or "unknown"] += 1
        self.teachers[f"{row['teacher']} / {row['prompt_hash'][:12]}"] += 1
        self.opinions += row["opinions"]
        self.review_words[len(row["review"].split())] += 1
        self.response_words[len(row["response"].split())] += 1
        self.implicit[min(int(row["implicit_share"] * 10), 9)] += 1
        if not math.isnan(row["hallucination"]):
            self.scored += 1
            self.hallucination += row["hallucination"]

    def as_json(self) -> dict[str, Any]:
        return {
            "rows": self.rows,
            "verdicts": dict(self.verdicts.most_common()),
            "stars": dict(sorted(self.stars.items())),
            "domains": dict(self.domains.most_common()),
            "teachers": dict(self.teachers.most_common()),
            "opinions": self.opinions,
            "review_words": _percentiles(self.review_words),
            "response_words": _percentiles(self.response_words),
            "hallucination_rate": self.hallucination / self.scored if self.scored else None,
            "implicit_share_tenths": [self.implicit[tenth] for tenth in range(10)],
        }


@dataclass
class Summary:
    """Statistics of a corpus by form and split, and the left-out rows by reason."""

    parts: dict[str, dict[str, Part]] = field(default_factory=dict)
    left_out: Counter[str] = field(default_factory=Counter)
    reviews: set[int] = field(default_factory=set)
    """Hashes of the texts of the reviews."""

    def as_json(self) -> dict[str, Any]:
        return {
            "reviews": len(self.reviews),
            "left_out": dict(self.left_out.most_common()),
            "parts": {
                form: {split: part.as_json() for split, part in sorted(splits.items())}
                for form, splits in sorted(self.parts.items())
            },
        }


def summarise(source: Path, selection: Selection, held_out: HeldOut) -> Summary:
    """Computes the statistics of the selected rows of a source.

    Raises:
      DataError: two files of the source have the same name, so their rows would have the same keys.
    """
    summary = Summary()
    source_files = files(source)
    if len({file.name for file in source_files}) < len(source_files):
        raise DataError(source, expected="files of different names", found="two with the same name", fix="rename one")
    for file in source_files:
        for _, row in selected(file, selection, losses=summary.left_out):
            hashed = review_hash(row["review"], held_out.seed)
            summary.reviews.add(hashed)
            split = held_out.split_of_hash(hashed)
            summary.parts.setdefault(row["understanding"], {}).setdefault(split, Part()).add(row)
    return summary


def _percentiles(counts: Counter[int]) -> dict[str, int]:
    """Percentiles of counted integers, by the nearest-rank method."""
    total = sum(counts.values())
    found: dict[str, int] = {}
    seen = 0
    for value in sorted(counts):
        seen += counts[value]
        for percent in LENGTH_PERCENTILES:
            if f"p{percent}" not in found and seen * 100 >= percent * total:
                found[f"p{percent}"] = value
    return found
