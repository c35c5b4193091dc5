"""One offline HTML page from tables, figures and example sentences.

All text is escaped, because reviews, predictions and teacher text are untrusted. Figures are embedded, so that the page
needs neither a network nor other files. It has no script.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib import resources
from typing import Literal

import jinja2
from matplotlib.figure import Figure as MatplotlibFigure

from fsa_jax.common.svg import data_uri

Pairs = Sequence[tuple[str, str]]
"""A pair: (aspect term or aspect category, polarity)."""


@dataclass(frozen=True)
class Cell:
    """A cell of a table; ``strong`` marks the best value."""

    text: str
    strong: bool = False


@dataclass(frozen=True)
class Table:
    """Rows of cells with column headings; the first column has the row headings, the others have numbers."""

    caption: str
    columns: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    kind: Literal["table"] = field(default="table", init=False)


@dataclass(frozen=True)
class Plot:
    """An embedded figure; ``description`` is its alternative text for readers who cannot see it."""

    caption: str
    description: str
    figure: MatplotlibFigure
    kind: Literal["plot"] = field(default="plot", init=False)

    @property
    def source(self) -> str:
        return data_uri(self.figure)


@dataclass(frozen=True)
class Prediction:
    """The predicted pairs of one model for a sentence."""

    by: str
    pairs: Pairs


@dataclass(frozen=True)
class Example:
    """A sentence with its gold pairs and the predictions of the models."""

    sentence: str
    gold: Pairs
    predictions: tuple[Prediction, ...]

    def is_right(self, prediction: Prediction) -> bool:
        return sorted(prediction.pairs) == sorted(self.gold)


@dataclass(frozen=True)
class Examples:
    """Example sentences."""

    caption: str
    examples: tuple[Example, ...]
    kind: Literal["examples"] = field(default="examples", init=False)


@dataclass(frozen=True)
class Texts:
    """Longer texts, each with a label; line breaks are kept."""

    caption: str
    texts: tuple[tuple[str, str], ...]
    kind: Literal["texts"] = field(default="texts", init=False)


@dataclass(frozen=True)
class Facts:
    """Names and values."""

    caption: str
    facts: tuple[tuple[str, str], ...]
    kind: Literal["facts"] = field(default="facts", init=False)


Block = Table | Plot | Examples | Texts | Facts


@dataclass(frozen=True)
class Section:
    """A section of a report: a heading, an introductory paragraph, and blocks."""

    title: str
    text: str
    blocks: tuple[Block, ...] = ()


@dataclass(frozen=True)
class Report:
    """A report page; its main result is at the top."""

    title: str
    claim: str
    """The main result in one sentence, with numbers."""
    note: str
    """Date, machine and command of the report."""
    sections: tuple[Section, ...]


def render(report: Report) -> str:
    """Returns the page as HTML; all texts are escaped."""
    source = resources.files("fsa_jax.evaluation").joinpath("report.html.j2").read_text(encoding="utf-8")
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True)
    return environment.from_string(source).render(report=report)
