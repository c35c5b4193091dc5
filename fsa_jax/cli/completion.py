"""``fsa completion``: prints a completion script for a shell."""

from __future__ import annotations

import argparse
from typing import Any, Literal


def command(shell: Literal["bash", "zsh", "fish"]) -> None:
    """Prints a script with which a shell completes commands, options, their choices, and files.

    Args:
      shell: the shell.

    Example:
      fsa completion bash > ~/.local/share/bash-completion/completions/fsa
      fsa completion zsh > ~/.zfunc/_fsa
      fsa completion fish > ~/.config/fish/completions/fsa.fish
    """
    from fsa_base.extras import not_installed

    try:
        import shtab
    except ModuleNotFoundError as error:
        raise not_installed("shtab", "fsa completion") from error
    print(shtab.complete(_all_commands(shtab.FILE), shell))


def _all_commands(files: Any) -> argparse.ArgumentParser:
    """A parser with all commands. It only has what shtab reads: names, choices, help, and what are files.

    Args:
      files: shtab's mark for words that are files.
    """
    from fsa_jax.cli.command_parser import parser_of
    from fsa_jax.cli.main import COMMANDS, command_of
    from fsa_jax.cli.parameters import parameters_of

    root = argparse.ArgumentParser("fsa")
    root.add_argument("--version", action="version", help="print the version")
    commands = root.add_subparsers()
    for name, line in COMMANDS.items():
        parser = commands.add_parser(name, help=line)
        function = command_of(name)
        # argparse formats help texts with %.
        helps = {action.dest: str(action.help).replace("%", "%%") for action in parser_of(name, function)._actions}
        parser.add_argument("--config", help=helps["config"]).complete = files
        parser.add_argument("--print-config", action="store_true", help="print all settings as YAML")
        for parameter in parameters_of(function).values():
            text = helps[parameter.name]
            if parameter.kind == "flag":
                parser.add_argument(parameter.option, action="store_true", help=text)
                parser.add_argument(f"--no-{parameter.option[2:]}", action="store_true", help=text)
                continue
            added = parser.add_argument(
                parameter.name if parameter.required else parameter.option,
                choices=parameter.choices or None,
                nargs="+" if parameter.kind in ("list", "mapping") else None,
                help=text,
            )
            if parameter.has_paths or (parameter.required and not parameter.choices):
                added.complete = files
    return root
