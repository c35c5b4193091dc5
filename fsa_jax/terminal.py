"""Tables and lines on the terminal."""

from __future__ import annotations

import sys

from rich.console import Console


def console() -> Console:
    """Returns a console that prints text unchanged, because a file may be called ``[/x]`` or ``:smile:``.

    In a log file the console is wider than rich's default of 80 characters, in which the columns of tables do not fit.
    """
    return Console(markup=False, emoji=False, width=None if sys.stdout.isatty() else 160)
