"""Plots of a check as SVG images inside the page, so that the page works offline."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib.figure

from fsa_jax.checking.statistics import LENGTH_BIN, SHARE_BINS, Statistics
from fsa_jax.common.records import SENTIMENTS
from fsa_jax.common.svg import data_uri

COLOURS = {"keep": "#2f7d5b", "repair": "#d9a441", "drop": "#b5483a"}
_FORMS = {"analysis": "#3a6ea5", "rewriting": "#8a5a9e"}
_SENTIMENT_COLOURS = ("#8f2d23", "#c9705f", "#a8a8a8", "#7fb08f", "#2f7d5b")
_GROUNDING = {"exact": "#2f7d5b", "normalised": "#7fb08f", "fuzzy": "#d9a441", "absent": "#b5483a"}
_MAX_LABEL = 42


def plots(statistics: Statistics) -> list[tuple[str, str, str]]:
    """Title, one-sentence description and ``data:`` URI of each plot that has data."""
    found = []
    for title, caption, draw in (
        ("Star ratings", "Reviews by star rating, with the verdicts on their generations.", _stars),
        ("Lengths", "Words of the kept texts; the students' targets end at 400 tokens.", _lengths),
        ("Sentiments", "Opinions of the analyses on the five-step scale.", _sentiments),
        ("Grounding", "How opinion targets occur in their reviews.", _grounding),
        (
            "Hallucination scores",
            "Share of opinions or sentences with something that is not in the review.",
            _hallucination,
        ),
        ("Gap to the stars", "0: text and stars agree; 1: they are opposite.", _gaps),
        ("Drops by reason", "Why generations were not kept.", _reasons),
        ("Repairs", "What was removed from generations that were kept or dropped.", _repairs),
    ):
        figure = matplotlib.figure.Figure(figsize=(5.2, 3.1), layout="constrained")
        axes = figure.subplots()
        if draw(axes, statistics):
            axes.spines[["top", "right"]].set_visible(False)
            found.append((title, caption, data_uri(figure)))
    return found


def _stars(axes: Any, statistics: Statistics) -> bool:
    names = sorted(statistics.stars)
    bottoms = [0] * len(names)
    for verdict, colour in COLOURS.items():
        heights = [statistics.stars[name][verdict] for name in names]
        axes.bar(names, heights, bottom=bottoms, color=colour, label=verdict)
        bottoms = [bottom + height for bottom, height in zip(bottoms, heights, strict=True)]
    axes.set(xlabel="stars", ylabel="generations")
    axes.legend(frameon=False)
    return bool(names)


def _histograms(
    axes: Any, counts: Mapping[str, Counter[int]], width: float, unit: str, bins: int | None = None
) -> bool:
    for form, colour in _FORMS.items():
        if by_bin := counts.get(form):
            places = range(bins or max(by_bin) + 1)
            axes.bar(
                [(place + 0.5) * width for place in places],
                [by_bin[place] for place in places],
                width=width,
                color=colour,
                alpha=0.65,
                label=form,
            )
    axes.set(xlabel=unit, ylabel="generations")
    if counts:
        axes.legend(frameon=False)
    return bool(counts)


def _lengths(axes: Any, statistics: Statistics) -> bool:
    return _histograms(axes, statistics.lengths, LENGTH_BIN, "words")


def _hallucination(axes: Any, statistics: Statistics) -> bool:
    axes.set_yscale("symlog")
    return _histograms(axes, statistics.hallucination, 1 / SHARE_BINS, "score (counts on a log scale)", SHARE_BINS)


def _gaps(axes: Any, statistics: Statistics) -> bool:
    return _histograms(axes, statistics.stars_gaps, 1 / SHARE_BINS, "gap", SHARE_BINS)


def _sentiments(axes: Any, statistics: Statistics) -> bool:
    names = [name.replace(" ", "\n") for name in SENTIMENTS]
    axes.bar(names, [statistics.sentiments[name] for name in SENTIMENTS], color=_SENTIMENT_COLOURS)
    axes.set(ylabel="opinions")
    return bool(statistics.sentiments)


def _grounding(axes: Any, statistics: Statistics) -> bool:
    total = sum(statistics.grounding.values())
    bars = axes.bar(
        list(_GROUNDING), [statistics.grounding[kind] for kind in _GROUNDING], color=list(_GROUNDING.values())
    )
    if total:
        axes.bar_label(bars, [f"{statistics.grounding[kind] / total:.1%}" for kind in _GROUNDING])
    axes.set(ylabel="opinions")
    return bool(total)


def _sideways(axes: Any, counts: Sequence[tuple[str, int]], colour: str) -> bool:
    names = [name if len(name) <= _MAX_LABEL else name[: _MAX_LABEL - 1] + "…" for name, _ in counts]
    # matplotlib would read a dollar sign as the start of a formula.
    bars = axes.barh([name.replace("$", r"\$") for name in names], [count for _, count in counts], color=colour)
    axes.bar_label(bars, padding=2)
    axes.invert_yaxis()
    axes.set(xlabel="generations")
    return bool(counts)


def _reasons(axes: Any, statistics: Statistics) -> bool:
    return _sideways(axes, statistics.reasons().most_common(12), COLOURS["drop"])


def _repairs(axes: Any, statistics: Statistics) -> bool:
    return _sideways(axes, statistics.repairs().most_common(12), COLOURS["repair"])
