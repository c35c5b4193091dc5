"""Tables, lines and progress on the terminal."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from tqdm import tqdm


def console() -> Console:
    """Returns a console that prints text unchanged, because a file may be called ``[/x]`` or ``:smile:``.

    In a log file the console is wider than rich's default of 80 characters, in which the columns of tables do not fit.
    """
    return Console(markup=False, emoji=False, width=None if sys.stdout.isatty() else 160)


def printable(text: str) -> str:
    """Untrusted text without control characters: a terminal would obey them, and some reverse the order of the text.

    Line ends stay, other white space becomes spaces, and the rest is shown as ``\\x1b`` or ``\\u202e``.
    """
    return "".join(
        character
        if character.isprintable() or character == "\n"
        else " "
        if character in "\t\xa0"
        else ascii(character)[1:-1]
        for character in text
    )


@contextmanager
def row_progress() -> Iterator[Callable[[str, int], None]]:
    """Shows on standard error how many rows are done, in a command that passes over its rows more than once.

    Shows nothing if standard error is not a terminal.

    Yields:
      The function to call with the name of the pass and its rows so far.
    """
    with tqdm(unit=" rows", unit_scale=True, mininterval=1, disable=None) as bar:

        def show(phase: str, rows: int) -> None:
            if rows < bar.n:
                bar.reset()
            bar.set_description(phase, refresh=False)
            bar.update(rows - bar.n)

        yield show
