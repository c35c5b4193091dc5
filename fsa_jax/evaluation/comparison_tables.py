"""Tables of a comparison of students: for the terminal, for a paper, and for a page of text.

One list of rows is the source of all. Names come from files and are untrusted.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from rich.box import SIMPLE
from rich.table import Table as RichTable

from fsa_jax.common import latex as latex_text
from fsa_jax.common import markdown as markdown_text
from fsa_jax.common.terminal import printable
from fsa_jax.evaluation.student_comparison import LEVEL, Comparison, StudentComparison

EXPLANATIONS = (
    "F1 in percent, mean ± standard deviation over seeds. Difference: the second student's mean F1 minus the first's, "
    "with the interval of a bootstrap over seeds and sentences. p: permutation test over seeds and sentences. Holm: p "
    "corrected for all {tests} tests; it decides, at {level:g}.",
    "g: the difference in standard deviations between seeds (Hedges). Wins: probability that a run of the second "
    "student is better. Needed: seeds of each student, or sentences, with which a true difference of this size would "
    "be found in 80% of cases, all else equal; none: no number is enough. Between seeds, by sentences, rest: standard "
    "deviations of F1 by cause, in points; two are those of the two students.",
    "These tests take the given runs as fixed. They do not hold for other seeds, and decide nothing. McNemar: median p "
    "over the pairs of runs, and the sentences on which only one of the two is right, summed over the pairs.",
)
"""How to read the three tables of a pair of students."""


@dataclass(frozen=True)
class TextTable:
    """A table of texts, with the text that explains it."""

    title: str
    explanation: str
    keys: tuple[str, ...]
    """The columns with words."""
    numbers: tuple[str, ...]
    """The columns with numbers, after the others."""
    rows: tuple[tuple[str, ...], ...]

    @property
    def columns(self) -> tuple[str, ...]:
        return self.keys + self.numbers


def tables(report: StudentComparison) -> Iterator[TextTable]:
    """Three tables for each pair of students: the comparison, its size and causes, and the tests of the given runs."""
    has_shares = any(row.share != 1 for row in report.comparisons)
    keys = ("task", *(["share"] if has_shares else []), "subset", "scoring")
    explanations = [text.format(tests=report.tests, level=LEVEL) for text in EXPLANATIONS]
    for (first, second), group in itertools.groupby(report.comparisons, lambda row: (row.first.name, row.second.name)):
        rows = list(group)
        interval = f"{100 * rows[0].confidence:g}% interval"
        for part, numbers, cells, explanation in (
            ("", ("sentences", "seeds", first, second, "difference", interval, "p", "Holm", "verdict"), _test, 0),
            (
                ", size and causes",
                ("g", "wins", "seeds needed", "sentences needed", "between seeds", "by sentences", "rest"),
                _size,
                1,
            ),
            (
                ", these checkpoints only",
                ("permutation p", "McNemar p", f"only {first} right", f"only {second} right"),
                _given_runs,
                2,
            ),
        ):
            yield TextTable(
                f"{second} against {first}{part}",
                explanations[explanation],
                keys,
                numbers,
                tuple((*_key(row, has_shares), *cells(row)) for row in rows),
            )


def notes(report: StudentComparison) -> list[str]:
    """What is missing from the comparison, and what must be known to read it; lines of plain text."""
    lines = [
        f"{gap.student}, {gap.task}, share {gap.share:g}, seed {gap.seed}: {gap.kind}{': ' if gap.why else ''}{gap.why}"
        for gap in report.gaps
    ]
    pairs: dict[str, list[str]] = {}
    for one in report.uncompared:
        pairs.setdefault(f"{one.task}, share {one.share:g}: {one.why}", []).append(f"{one.first} and {one.second}")
    lines += [f"not compared: {what} ({', '.join(names)})" for what, names in pairs.items()]
    lines += [f"different seeds (allowed): {where}" for where in report.unpaired]
    single = sum(row.p is None for row in report.comparisons)
    if single:
        lines.append(
            f"{single} comparisons are not tested: with one seed, a better student cannot be told from a better seed. "
            "Their intervals hold for the given runs only."
        )
    # The smallest p is 1 / (resamples + 1).
    if report.tests > LEVEL * (report.resamples + 1):
        needed = math.ceil(report.tests / LEVEL)
        lines.append(f"No test can reject after the correction for {report.tests} tests: use --resamples {needed}.")
    return lines


def rich_tables(report: StudentComparison) -> Iterator[RichTable]:
    """The tables for the terminal; the explanation is below the first of each kind."""
    explained: set[str] = set()
    for table in tables(report):
        caption = "" if table.explanation in explained else table.explanation
        explained.add(table.explanation)
        shown = RichTable(
            title=printable(table.title), caption=caption, title_justify="left", caption_justify="left", box=SIMPLE
        )
        for column in table.keys:
            shown.add_column(printable(column))
        for column in table.numbers:
            shown.add_column(printable(column), justify="right")
        for row in table.rows:
            shown.add_row(*map(printable, row))
        yield shown


def markdown(report: StudentComparison) -> str:
    """The tables and notes as Markdown."""
    blocks = []
    for table in tables(report):
        align = ["---"] * len(table.keys) + ["---:"] * len(table.numbers)
        lines = [_line(table.columns), f"| {' | '.join(align)} |", *map(_line, table.rows)]
        blocks += [f"## {markdown_text.escaped(table.title)}", table.explanation, "\n".join(lines)]
    found = [f"- {markdown_text.escaped(note)}" for note in notes(report)]
    return "\n\n".join([*blocks, *(["## Notes", "\n".join(found)] if found else [])]) + "\n"


def latex(report: StudentComparison) -> str:
    """The tables as LaTeX, to be included in a document; the notes are comments."""
    lines = ["% Tables of fsa compare. The document needs \\usepackage{booktabs}."]
    for table in tables(report):
        lines += [
            "\\begin{table}",
            f"\\caption{{{latex_text.escaped(f'{table.title}. {table.explanation}')}}}",
            "\\small",
            f"\\begin{{tabular}}{{{'l' * len(table.keys)}{'r' * len(table.numbers)}}}",
            "\\toprule",
            _row(table.columns),
            "\\midrule",
            *map(_row, table.rows),
            "\\bottomrule",
            "\\end{tabular}",
            "\\end{table}",
        ]
    lines += [f"% {latex_text.escaped(note)}" for note in notes(report)]
    return "\n".join(lines) + "\n"


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(map(markdown_text.escaped, cells))} |"


def _row(cells: Sequence[str]) -> str:
    # A cell that begins with "[" after "\\" would be an argument of it.
    return " & ".join(f"{{{latex_text.escaped(cell)}}}" for cell in cells) + " \\\\"


def _key(row: Comparison, has_shares: bool) -> tuple[str, ...]:
    return (row.task, *([f"{row.share:g}"] if has_shares else []), row.subset, row.scoring)


def _test(row: Comparison) -> tuple[str, ...]:
    runs = (len(row.first.seeds), len(row.second.seeds))
    return (
        str(row.sentences),
        str(runs[0]) if runs[0] == runs[1] else f"{runs[0]}, {runs[1]}",
        *(
            f"{side.mean:.1f}" + ("" if side.deviation is None else f" ± {side.deviation:.1f}")
            for side in (row.first, row.second)
        ),
        f"{row.difference:+.1f}",
        f"{row.low:+.1f} to {row.high:+.1f}",
        _p(row.p),
        _p(row.p_holm),
        row.verdict,
    )


def _size(row: Comparison) -> tuple[str, ...]:
    known = row.p is not None
    causes = row.deviations
    return (
        "-" if row.effect_size is None else f"{row.effect_size:+.1f}",
        f"{row.superiority:.0%}",
        *(
            "-" if not known else "none" if count is None else f"{count:,}"
            for count in (row.seeds_needed, row.sentences_needed)
        ),
        f"{causes.seeds_first:.1f}, {causes.seeds_second:.1f}" if known else "-",
        f"{causes.sentences:.1f}",
        f"{causes.rest_first:.1f}, {causes.rest_second:.1f}" if known else "-",
    )


def _given_runs(row: Comparison) -> tuple[str, ...]:
    given = row.given_runs
    only = (sum(test.first_only for test in given.mcnemar), sum(test.second_only for test in given.mcnemar))
    return _p(given.permutation_p), _p(given.mcnemar_p), str(only[0]), str(only[1])


def _p(value: float | None) -> str:
    return "-" if value is None else "< 0.0001" if value < 0.0001 else f"{value:.4f}"
