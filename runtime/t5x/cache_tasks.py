"""``seqio_cache_tasks`` with list flags that may be repeated: ``--tasks=a --tasks=b`` caches both.

SeqIO's own command uses only the last one and ignores the others silently. Everything else is unchanged.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

_LISTS = ("tasks", "excluded_tasks", "tasks_additional_cache_dirs", "pipeline_options")
"""Flags of SeqIO's command whose value is a comma-separated list."""


def with_joined_lists(arguments: Sequence[str]) -> list[str]:
    """Returns the arguments with each list flag only once, at its first position, with its values joined by commas."""
    joined: list[str] = []
    at: dict[str, int] = {}
    words = iter(arguments)
    for word in words:
        if word == "--":
            return [*joined, word, *words]
        name, equals, value = word.partition("=")
        flag = name.lstrip("-") if name.startswith("-") else ""
        if flag not in _LISTS:
            joined.append(word)
            continue
        value = value if equals else next(words, "")
        if flag in at:
            joined[at[flag]] += f",{value}"
        else:
            at[flag] = len(joined)
            joined.append(f"--{flag}={value}")
    return joined


def main() -> None:
    """Entry point of the console script, which replaces SeqIO's."""
    from seqio.scripts import cache_tasks_main

    sys.argv[1:] = with_joined_lists(sys.argv[1:])
    cache_tasks_main.console_entry_point()


if __name__ == "__main__":
    main()
