"""Tables and lines on the terminal."""

from __future__ import annotations

import sys

from rich.console import Console


def console() -> Console:
    """Returns a console that shows text as it stands: a file may be called ``[/x]`` or ``:smile:``.

    In a log file rich would squeeze the columns of a table into 80 characters; there it is wider.
    """
    return Console(markup=False, emoji=False, width=None if sys.stdout.isatty() else 160)
