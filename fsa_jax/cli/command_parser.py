"""The parser of a command: jsonargparse's, with our spelling of options and our errors."""

from __future__ import annotations

import argparse
import difflib
import json
import re
from collections.abc import Iterable, Sequence
from typing import Any, NoReturn

import yaml
from jsonargparse import ArgumentParser, Namespace, auto_parser, get_loader, set_loader

from fsa_base.errors import SettingError, require_choice
from fsa_jax.cli.command_help import HelpFormatter, example_section
from fsa_jax.cli.option_spelling import option_key, spelt_out
from fsa_jax.cli.parameters import Command, hyphenated, is_option, parameters_of


def _text_keys(value: Any) -> Any:
    """A value with keys as in JSON, where all are text: ``{1: 2}`` in YAML has the number 1 as its key."""
    if isinstance(value, dict):
        return {str(key): _text_keys(inner) for key, inner in value.items()}
    return [_text_keys(inner) for inner in value] if isinstance(value, list) else value


def _yaml(text: str) -> Any:
    return _text_keys(get_loader("yaml")(text))


_MODE = "JSON, then YAML"
# A YAML parser refuses or changes some characters in JSON. JSON is tried first if a mode does not claim to include it.
set_loader(_MODE, _yaml, exceptions=(yaml.YAMLError,), json_superset=False)

_KEY = re.compile(r'Parser key "([\w.]+)"')
_FOUND = re.compile(r".*(?:Got|Given) value: (.*)", re.DOTALL)
_NESTED = re.compile(r"NestedArg\(key='([^']*+)', val='(.*)'\)")
_REQUIRED = re.compile(r"the following arguments are required: (.*)")
_EXTRA = re.compile(r"unrecognized arguments: (.*)", re.DOTALL)
_NO_VALUE = re.compile(r"([\w.+]++)[^:]*+: expected one argument")
_SHOWN = 200
"""Longest value that an error shows, in characters."""


def _config_keys(content: str) -> list[str]:
    """The keys of a configuration file, also those that occur twice; none if it is no mapping."""
    try:
        if content.lstrip().startswith("{"):
            return [key for key, _ in json.loads(content, object_pairs_hook=list)]
    except ValueError:
        pass
    try:
        found = yaml.compose(content, yaml.SafeLoader)
    except yaml.YAMLError:
        return []
    return [str(key.value) for key, _ in found.value] if isinstance(found, yaml.MappingNode) else []


class UnknownName(SettingError):
    """There is no such command or option. ``found`` is its place, or empty; ``fix`` says which names are similar."""

    def __str__(self) -> str:
        return f"no {self.expected} {self.where!r}{self.found and f' in {self.found}'}; {self.fix}"


def unknown_name(kind: str, name: str, known: Iterable[str], listed_by: str) -> UnknownName:
    """Returns the error for an unknown command or option.

    Args:
      kind: ``command`` or ``option``.
      name: name that the user wrote.
      known: all names.
      listed_by: command that lists the names.
    """
    known = list(known)
    near = [other for other in known if other.startswith(name)] or difflib.get_close_matches(name, known, 1)
    fix = f"did you mean {' or '.join(map(repr, near))}?" if near else f"{listed_by} lists them"
    return UnknownName(name, expected=kind, found="", fix=fix)


class CommandParser(ArgumentParser):
    """Parses the words of one command.

    Args:
      command: function of the command.
      **kwargs: as for jsonargparse's ArgumentParser.
    """

    def __init__(self, command: Command, **kwargs: Any) -> None:
        self._parameters = parameters_of(command)
        self._command = command
        self._written: list[str] = []
        positional = [parameter for parameter in self._parameters.values() if parameter.required]
        shown = [f"{one.name.upper()} ..." if one.kind == "list" else one.name.upper() for one in positional]
        self._usage = " ".join([kwargs["prog"], *shown, "[OPTION ...]"])
        ours = {"usage": self._usage, "epilog": example_section(command), "formatter_class": HelpFormatter}
        super().__init__(**ours, parser_mode=_MODE, **kwargs)

    def add_argument(self, *args: Any, **kwargs: Any) -> argparse.Action:
        action: Any = super().add_argument(*args, **kwargs)
        parameter = self._parameters.get(action.dest)
        if parameter is not None:
            action.metavar = action.dest.upper() if parameter.required else parameter.form
        elif action.dest == "config":
            action.metavar = "FILE"
        return action

    def parse_args(self, args: Sequence[str] | None = None, *others: Any, **kwargs: Any) -> Namespace:
        """Parses words as users write them.

        Raises:
          SettingError: a word is wrong.
        """
        self._written = list(args or ())
        words = spelt_out(self._command, self._written)
        options = words[: words.index("--") if "--" in words else None]
        for before, word in zip(["", *options], options, strict=False):
            self._refuse_unknown(word, before)
        inputs = self._written[self._written.index("--") + 1 :] if "--" in self._written else []
        for word in inputs:
            if word.startswith("--") and option_key(word) in self._parameters:
                fix = f"write {word} before --"
                raise SettingError(word, expected="only inputs after --", found="an option", fix=fix)
        return super().parse_args(words, *others, **kwargs)

    def parse_string(self, content: str, path: Any = "", *others: Any, **kwargs: Any) -> Namespace:
        """Parses the content of a configuration file; keys may have hyphens.

        Raises:
          SettingError: the content is wrong.
        """
        content = self._with_names_of_parameters(content, path)
        try:
            return super().parse_string(content, path, *others, **kwargs)
        except SettingError as error:
            if error.where.startswith("--"):
                where = f"{path}, {option_key(error.where)}"
                raise SettingError(where, expected=error.expected, found=error.found, fix="edit the file") from error
            fix = f"{self.prog} ... --print-config prints such a file"
            raise SettingError(path, expected="lines OPTION: VALUE", found=error.found, fix=fix) from error

    def _with_names_of_parameters(self, content: str, path: Any) -> str:
        by_key = {parameter.option.removeprefix("--"): name for name, parameter in self._parameters.items()}
        keys = _config_keys(content)
        names = [by_key.get(key.replace("_", "-"), key) for key in keys]
        if twice := sorted({key for key, name in zip(keys, names, strict=True) if names.count(name) > 1}):
            raise SettingError(path, expected="each option once", found=f"twice: {', '.join(twice)}", fix="keep one")
        if keys == names:
            return content
        try:
            loaded = json.loads(content)
        except ValueError:
            loaded = _yaml(content)
        renamed = dict(zip(keys, names, strict=True))
        return json.dumps({renamed.get(key, key): value for key, value in loaded.items()}, default=str)

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        """Raises the error of jsonargparse as one of ours."""
        raise self._our_error(message) from ex

    def _refuse_unknown(self, word: str, before: str) -> None:
        """Raises an error for a word that looks like an option but is none; ``before`` is the word before it."""
        option = word.partition("=")[0]
        if not is_option(word) or option in self._option_string_actions:
            return
        name = option_key(word)
        parameter = self._parameters.get(name)
        if parameter is not None and parameter.required:
            fix = f"write it without the name: {self._usage}"
            raise SettingError(option, expected=f"{name.upper()} as a plain word", found="an option", fix=fix)
        if parameter is not None and parameter.kind == "mapping" and "." in option:
            return
        known = [*self._option_string_actions, *(f"--no_{n}" for n, p in self._parameters.items() if p.kind == "flag")]
        spelt = [hyphenated(name) for name in known if name not in self._hidden()]
        error = unknown_name("option", option, spelt, f"{self.prog} --help")
        parameter = self._parameters.get(before.removeprefix("--"))
        if parameter is not None and parameter.kind == "value" and before.startswith("--"):
            error.fix += f"; if it is the value of {parameter.option}, write {parameter.option}={word}"
        raise error

    def _hidden(self) -> set[str]:
        return {
            option
            for option, action in self._option_string_actions.items()
            if action.help is argparse.SUPPRESS or option.endswith("+")
        }

    def _as_written(self, key: str) -> str:
        """The option of a parameter as the user wrote it; its shown name if it was not on the command line."""
        written = (word.partition("=")[0].partition(".")[0] for word in self._written if is_option(word))
        return next((word for word in written if option_key(word) == key), hyphenated(f"--{key}"))

    def _our_error(self, message: str) -> SettingError:
        if (match := _KEY.search(message)) and (error := self._value_error(match[1].partition(".")[0], message)):
            return error
        if match := _REQUIRED.search(message):
            swallowed = ""
            for parameter in self._parameters.values():
                if parameter.kind in ("list", "mapping") and self._as_written(parameter.name) in self._written:
                    words = "words with =" if parameter.kind == "mapping" else "words"
                    swallowed = f"; {parameter.option} takes all {words} up to the next option or --"
            return SettingError(
                match[1].upper(), expected="a value", found="nothing", fix=f"write {self._usage}{swallowed}"
            )
        if match := _EXTRA.search(message):
            return SettingError(
                repr(match[1]), expected="an option", found="one word too many", fix=f"write {self._usage}"
            )
        if match := _NO_VALUE.match(message.rpartition("--")[2]):
            parameter = self._parameters.get(match[1].rstrip("+"))
            option = self._as_written(match[1])
            if parameter is not None:
                return parameter.error(option, "nothing")
            return SettingError(option, expected="a value", found="nothing", fix=f"write {option} VALUE")
        if key := message.partition("Option '")[2].rpartition("' is not accepted")[0]:
            found = unknown_name("option", key, self._parameters, f"{self.prog} --help")
            return UnknownName(found.where, expected=found.expected, found="--config", fix=found.fix)
        return SettingError(
            "the command line",
            expected=self._usage,
            found=" ".join(message.split())[:_SHOWN],
            fix=f"{self.prog} --help shows all options",
        )

    def _value_error(self, key: str, message: str) -> SettingError | None:
        parameter, found = self._parameters.get(key), _FOUND.match(message)
        if parameter is None or found is None:
            if key != "config":
                return None
            reason = " ".join(message.partition(":")[2].split())[:_SHOWN]
            return SettingError(
                "--config", expected="a YAML file with options", found=reason, fix="write --config FILE"
            )
        option = key.upper() if parameter.required else self._as_written(key)
        nested = _NESTED.fullmatch(found[1])
        value = (f"{nested[1]}={nested[2]}" if nested else found[1])[:_SHOWN]
        if parameter.choices and parameter.kind == "value":
            fix = "write {choice}" if parameter.required else f"write {option} {{choice}}"
            try:
                require_choice(option, value, parameter.choices, fix)
            except SettingError as error:
                return error
        return parameter.error(option, value if value.startswith(("[", "{")) else repr(value))


def settings_of(name: str, command: Command) -> dict[str, Any]:
    """The settings of ``auto_cli`` and ``auto_parser`` for a command."""
    return {"parser_class": CommandParser, "command": command, "prog": f"fsa {name}", "as_positional": True}


def parser_of(name: str, command: Command) -> ArgumentParser:
    """The parser of a command, for completion and tests."""
    return auto_parser(command, **settings_of(name, command))
