"""Tables of a comparison of students: for the terminal, for a paper, and for a page of text.

One list of rows is the source of all. Names come from files and are untrusted.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from rich.table import Table as RichTable

from fsa_jax.common import latex as latex_text
from fsa_jax.common import markdown as markdown_text
from fsa_jax.common.terminal import printable
from fsa_jax.evaluation.student_comparison import LEVEL, Comparison, StudentComparison

EXPLANATION = (
    "F1 in percent, mean ± standard deviation over seeds. The difference is that of the mean F1, the second student "
    "minus the first, with the interval of a bootstrap over seeds and sentences. p: permutation test over seeds and "
    "sentences; Holm: corrected for all {tests} tests; this decides, at {level:g}. g: difference in standard deviations "
    "between seeds (Hedges). wins: probability that a run of the second student is better. Seeds, sentences: how many "
    "would find a difference of this size in 80% of cases, given the other number; none: no number would."
)
GIVEN_RUNS = (
    "These checkpoints only: tests that take the runs as given. They hold for other sentences, but not for other seeds, "
    "and decide nothing. McNemar: median p over the pairs of runs, and on how many sentences only one of the two is "
    "right, summed over the pairs."
)


@dataclass(frozen=True)
class TextTable:
    """A table of texts; the columns from ``numbers`` on are numbers."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    numbers: int


def tables(report: StudentComparison) -> Iterator[TextTable]:
    """Two tables for each pair of students: the comparison, and the tests of the given runs."""
    for (first, second), group in itertools.groupby(report.comparisons, lambda row: (row.first.name, row.second.name)):
        rows = list(group)
        keys = ("task", "share", "subset", "scoring")
        columns = ("sentences", "seeds", first, second, "difference", f"{rows[0].confidence:.0%} interval")
        tests = ("p", "Holm", "g", "wins", "seeds needed", "sentences needed", "verdict")
        yield TextTable(
            f"{second} against {first}", keys + columns + tests, tuple((*_key(row), *_cells(row)) for row in rows), 4
        )
        columns = ("permutation p", "McNemar p", f"only {first}", f"only {second}")
        title = f"{second} against {first}, these checkpoints only"
        yield TextTable(title, keys + columns, tuple((*_key(row), *_given_runs(row)) for row in rows), 4)


def notes(report: StudentComparison) -> list[str]:
    """What is missing from the comparison, and what must be known to read it; lines of plain text."""
    lines = [
        f"{gap.student}, {gap.task}, share {gap.share:g}, seed {gap.seed}: {gap.kind}{': ' if gap.why else ''}{gap.why}"
        for gap in report.gaps
    ]
    lines += [f"{one.first} and {one.second}, {one.task}, share {one.share:g}: {one.why}" for one in report.uncompared]
    lines += [f"different seeds (allowed): {where}" for where in report.unpaired]
    single = sum(row.p is None for row in report.comparisons)
    if single:
        lines.append(
            f"{single} comparisons are not tested: with one seed, a better student cannot be told from a better seed. "
            "Their intervals hold for the given runs only"
        )
    # The smallest p is 1 / (resamples + 1).
    if report.tests > LEVEL * (report.resamples + 1):
        needed = int(report.tests / LEVEL)
        lines.append(f"no test can be significant after the correction for {report.tests}: --resamples {needed}")
    return lines


def explanations(report: StudentComparison) -> tuple[str, str]:
    """How to read the two kinds of tables."""
    return EXPLANATION.format(tests=report.tests, level=LEVEL), GIVEN_RUNS


def rich_tables(report: StudentComparison) -> Iterator[RichTable]:
    """The tables for the terminal."""
    for table in tables(report):
        shown = RichTable(title=printable(table.title), title_justify="left")
        for index, column in enumerate(table.columns):
            shown.add_column(printable(column), justify="left" if index < table.numbers else "right")
        for row in table.rows:
            shown.add_row(*map(printable, row))
        yield shown


def markdown(report: StudentComparison) -> str:
    """The tables and notes as Markdown."""
    blocks = []
    for table, text in zip(tables(report), itertools.cycle(explanations(report)), strict=False):
        align = ["---" if index < table.numbers else "---:" for index in range(len(table.columns))]
        lines = [_line(table.columns), f"| {' | '.join(align)} |"]
        lines += [_line(row) for row in table.rows]
        blocks += [f"## {markdown_text.escaped(table.title)}", "\n".join(lines), text]
    blocks += ["\n".join(f"- {markdown_text.escaped(note)}" for note in notes(report))]
    return "\n\n".join(block for block in blocks if block) + "\n"


def latex(report: StudentComparison) -> str:
    """The tables as LaTeX, to be included in a document that uses booktabs; the notes are comments."""
    blocks = ["% needs \\usepackage{booktabs}; tables this wide fit into \\resizebox or a landscape page"]
    for table, text in zip(tables(report), itertools.cycle(explanations(report)), strict=False):
        layout = "l" * table.numbers + "r" * (len(table.columns) - table.numbers)
        rows = [_row(row) for row in table.rows]
        blocks.append(
            "\n".join(
                [
                    "\\begin{table}",
                    f"\\caption{{{latex_text.escaped(table.title)}. {latex_text.escaped(text)}}}",
                    f"\\begin{{tabular}}{{{layout}}}",
                    "\\toprule",
                    _row(table.columns),
                    "\\midrule",
                    *rows,
                    "\\bottomrule",
                    "\\end{tabular}",
                    "\\end{table}",
                ]
            )
        )
    blocks += [f"% {latex_text.escaped(note)}" for note in notes(report)]
    return "\n".join(blocks) + "\n"


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(map(markdown_text.escaped, cells))} |"


def _row(cells: Sequence[str]) -> str:
    # A cell that begins with "[" after "\\" would be an argument of it.
    return " & ".join(f"{{{latex_text.escaped(cell)}}}" for cell in cells) + " \\\\"


def _key(row: Comparison) -> tuple[str, str, str, str]:
    return row.task, f"{row.share:g}", row.subset, row.scoring


def _cells(row: Comparison) -> tuple[str, ...]:
    runs = (len(row.first.seeds), len(row.second.seeds))
    return (
        str(row.sentences),
        str(runs[0]) if runs[0] == runs[1] else f"{runs[0]}, {runs[1]}",
        *(
            f"{side.mean:.1f}" + ("" if side.deviation is None else f" ± {side.deviation:.1f}")
            for side in (row.first, row.second)
        ),
        f"{row.difference:+.2f}",
        f"{row.low:+.2f} to {row.high:+.2f}",
        _p(row.p),
        _p(row.p_holm),
        "-" if row.effect_size is None else f"{row.effect_size:+.1f}",
        f"{row.superiority:.0%}",
        _needed(row, row.seeds_needed),
        _needed(row, row.sentences_needed),
        row.verdict,
    )


def _given_runs(row: Comparison) -> tuple[str, ...]:
    given = row.given_runs
    only = (sum(test.first_only for test in given.mcnemar), sum(test.second_only for test in given.mcnemar))
    return _p(given.permutation_p), _p(given.mcnemar_p), str(only[0]), str(only[1])


def _p(value: float | None) -> str:
    return "-" if value is None else "< 0.0001" if value < 0.0001 else f"{value:.4f}"


def _needed(row: Comparison, count: int | None) -> str:
    if count is not None:
        return f"{count:,}"
    return "-" if row.p is None else "none"
