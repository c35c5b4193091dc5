"""Statistics of a corpus, and its dataset card."""

from __future__ import annotations

import html
import json
import math
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fsa_base.errors import DataError
from fsa_jax.corpus.held_out import HeldOut
from fsa_jax.corpus.selection import Selection, files, selected

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

    def as_json(self) -> dict[str, Any]:
        return {
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
            split = held_out.split_of(row["review"])
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


def card(statistics: dict[str, Any], source: str, selection: dict[str, Any], check: dict[str, Any] | None) -> str:
    """The dataset card of a corpus in Markdown, with the front matter that the Hugging Face Hub reads.

    Args:
      statistics: result of Summary.as_json.
      source: path from which the corpus was built.
      selection: Selection as a dict.
      check: content of the check's check.json; None if the rows were not checked.
    """
    parts = [(form, split, part) for form, splits in statistics["parts"].items() for split, part in splits.items()]
    teachers = sorted({name for _, _, part in parts for name in part["teachers"]})
    lines = [
        "---",
        "language: en",
        "task_categories: [text2text-generation]",
        "tags: [sentiment-analysis, distillation, aspect-based-sentiment-analysis]",
        "license: other",
        "---",
        "",
        "# sentiment_corpus",
        "",
        "Reviews with the sentiment understanding that a teacher wrote about them, to distil into a small student "
        "(arXiv 2412.18552): `analysis` lists opinion targets with aspects, sentiment and reasoning, `rewriting` "
        "restates the review in the first person with explicit sentiment.",
        "",
        "| form | split | rows | opinions | review words (5/50/95%) | response words (5/50/95%) | hallucination |",
        "| --- | --- | ---: | ---: | --- | --- | ---: |",
    ]
    for form, split, part in parts:
        rate = part["hallucination_rate"]
        lines.append(
            f"| {form} | {split} | {part['rows']:,} | {part['opinions']:,} | {_slashed(part['review_words'])} | "
            f"{_slashed(part['response_words'])} | {'not checked' if rate is None else f'{rate:.3f}'} |"
        )
    lines += [
        "",
        "## Source",
        "",
        f"- built from `{_cell(source)}`",
        f"- selection: `{_cell(json.dumps(selection))}`",
    ]
    lines += [f"- teacher and prompt: `{_cell(name)}`" for name in teachers]
    for name, title in (("domains", "domain"), ("stars", "stars"), ("verdicts", "verdict")):
        total: Counter[str] = Counter()
        for _, _, part in parts:
            total.update(part[name])
        lines.append(
            f"- rows by {title}: " + ", ".join(f"{_cell(key)} {count:,}" for key, count in total.most_common())
        )
    if statistics["left_out"]:
        left_out = ", ".join(f"{_cell(reason)} {count:,}" for reason, count in statistics["left_out"].items())
        lines.append(f"- left out: {left_out}")
    if check is not None:
        dropped = ", ".join(f"{_cell(reason)} {count:,}" for reason, count in check["reasons"].items()) or "none"
        lines.append(f"- dropped by the check before: {dropped}")
    lines += [
        "",
        "## Fields",
        "",
        "- `review_id`, `review`, `stars`, `domain`: the review",
        "- `response`: the teacher text that the student learns",
        "- `teacher`, `teacher_revision`, `prompt_hash`, `sampling`, `seed`, `sample`: how the text was generated",
        "- `verdict`, `repairs`: result of the check",
        "- `hallucination` (share of opinions or sentences with something that is not in the review), `stars_gap`, "
        "`partner_gap`, `implicit_share` (share of the review's sentences without opinion words), all 0 to 1, and "
        "`lean`, -1 to 1: scores, NaN where unknown; docs/checking.md explains them",
        "",
        "## Limits",
        "",
        "A language model wrote the text: sentiments may be wrong and reasons invented even if every target is in its "
        "review. The scores come from rules, not from human judgement. Reviews and teacher text keep the licences of "
        "their sources; whoever shares this corpus must name them here.",
        "",
    ]
    return "\n".join(lines)


def _slashed(percentiles: dict[str, int]) -> str:
    return "/".join(str(value) for value in percentiles.values())


def _cell(text: str) -> str:
    """Untrusted text made safe for a line of Markdown: no markup, no table or code marks, no line ends."""
    return html.escape(" ".join(text.split()), quote=False).replace("|", "\\|").replace("`", "'")
