"""What ``fsa COMMAND --help`` shows."""

from __future__ import annotations

import argparse
import copy
import inspect
import textwrap

import docstring_parser
from jsonargparse import DefaultHelpFormatter

from fsa_jax.cli.parameters import Command, hyphenated


class HelpFormatter(DefaultHelpFormatter):
    """Shows options with hyphens and what to write after them; lines that start with a space keep their line breaks."""

    def _format_action_invocation(self, action: argparse.Action) -> str:
        shown = copy.copy(action)
        shown.option_strings = [hyphenated(option) for option in action.option_strings if not option.endswith("+")]
        if action.option_strings and not action.metavar and action.nargs != 0:
            return f"{shown.option_strings[0]}, --no-{shown.option_strings[0][2:]}"
        return super()._format_action_invocation(shown)

    def _get_type_str(self, action: argparse.Action) -> None:
        """No types of Python: the words after the option say what to write."""

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        lines = [line if line.startswith(" ") else textwrap.fill(line, width) for line in text.splitlines()]
        return "\n".join(indent + line for line in lines)


def examples(command: Command) -> list[str]:
    """The command lines in the ``Example:`` section of a command's docstring."""
    parsed = docstring_parser.parse(inspect.getdoc(command) or "", docstring_parser.DocstringStyle.GOOGLE)
    text = "\n".join(example.description or "" for example in parsed.examples)
    return text.replace("\\\n", "").splitlines()


def example_section(command: Command) -> str:
    """The last lines of the help; empty if the docstring has no examples."""
    lines = examples(command)
    return "\n".join(["Examples:" if len(lines) > 1 else "Example:", *(f"  {line}" for line in lines)]) if lines else ""
