"""Shows a command as a user would type it."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Mapping


def typed(words: Iterable[str], environment: Mapping[str, str] | None = None) -> str:
    """The command line that a shell reads as these words, with the environment variables before it."""
    variables = [f"{name}={quoted(value)}" for name, value in (environment or {}).items()]
    return " ".join([*variables, *map(quoted, words)])


def quoted(word: str) -> str:
    """A word for a shell. Strings of gin have their own quotes, which are easy to read inside double quotes.

    ``--gin.MODEL_DIR='runs/x'`` becomes ``"--gin.MODEL_DIR='runs/x'"``.
    """
    if "'" in word and not re.search(r'["$`\\!]', word):
        return f'"{word}"'
    return shlex.quote(word)
