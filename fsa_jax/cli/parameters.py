"""The parameters of a command as a user writes them: how many words each takes, and what kind of words."""

from __future__ import annotations

import inspect
import json
import re
import types
import typing
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from fsa_base.errors import SettingError

Command = Callable[..., Any]

_SCALARS: dict[Any, tuple[str, str]] = {
    bool: ("true|false", "true or false"),
    int: ("N", "a whole number"),
    float: ("NUMBER", "a number"),
    str: ("TEXT", "text"),
    Path: ("PATH", "a path"),
}
"""How a value is named in ``--help``, and in errors."""
_NUMBER = re.compile(r"-\.?\d")


def hyphenated(option: str) -> str:
    """An option as it is shown: with hyphens. A parameter cannot be called ``from``, so ``from_`` has ``--from``."""
    return option.rstrip("_").replace("_", "-")


def is_option(word: str) -> bool:
    """Whether a word of the command line is an option, and not a value such as ``-0.5``, ``-`` or ``- a text``."""
    return word.startswith("-") and word != "-" and not _NUMBER.match(word) and " " not in word.partition("=")[0]


@dataclass(frozen=True)
class Parameter:
    """A parameter of a command.

    Attributes:
      name: name in Python, with underscores.
      kind: ``flag``, ``list`` (takes several words), ``mapping`` (takes several KEY=VALUE words) or ``value``.
      item: type of the value, or of the items of a list or mapping.
      optional: whether null is accepted.
      required: whether it is positional.
    """

    name: str
    kind: Literal["flag", "list", "mapping", "value"]
    item: Any
    optional: bool
    required: bool

    @property
    def option(self) -> str:
        """The option as ``--help`` shows it."""
        return hyphenated(f"--{self.name}")

    @property
    def form(self) -> str:
        """What follows the option, such as ``KEY=NUMBER ...``; empty for a flag."""
        if self.kind == "flag":
            return ""
        value = _form(self.item)
        return {"list": f"{value} ...", "mapping": f"KEY={value} ..."}.get(self.kind, value)

    @property
    def choices(self) -> tuple[str, ...]:
        """The words of a Literal type; empty for all other types."""
        return typing.get_args(self.item) if typing.get_origin(self.item) is Literal else ()

    @property
    def has_paths(self) -> bool:
        return self.item is Path

    @property
    def expected(self) -> str:
        """The expected value in words, for errors."""
        null = ", or null" if self.optional else ""
        if self.kind in ("list", "mapping"):
            return f"{self.form}, or JSON{null}"
        return " or ".join(self.choices or (_SCALARS.get(self.item, ("", "a value"))[1],)) + null

    def is_whole(self, word: str) -> bool:
        """Whether a word is the whole value of a list or mapping: JSON, or null."""
        return word.lstrip().startswith("{" if self.kind == "mapping" else "[") or word == "null"

    def joined(self, words: list[str], option: str) -> str:
        """The words of a list or mapping as JSON.

        Raises:
          SettingError: a word has the wrong form, or a key occurs twice.
        """
        if self.kind == "list":
            return json.dumps([self._value(word, self.item, option) for word in words])
        pairs: dict[str, Any] = {}
        for word in words:
            key, equals, value = word.partition("=")
            if not equals or not key:
                raise self.error(option, repr(word))
            if key in pairs:
                fix = f"give {key} only once; an input after the pairs needs -- before it"
                raise SettingError(option, expected="each key once", found=f"{key} twice", fix=fix)
            pairs[key] = self._value(value, self.item, option)
        return json.dumps(pairs)

    def _value(self, word: str, item: Any, option: str) -> Any:
        if typing.get_origin(item) in (list, tuple) and not word.startswith("["):
            return [self._value(part, typing.get_args(item)[0], option) for part in word.split(",")]
        if item in (int, float):
            try:
                return item(word)
            except ValueError:
                raise self.error(option, repr(word)) from None
        if item in (str, Path) or typing.get_origin(item) is Literal:
            return word
        try:
            return json.loads(word.lower() if word in ("True", "False") else word)
        except ValueError:
            return word

    def error(self, option: str, found: str) -> SettingError:
        """The error for an unusable value; ``option`` is the option as the user wrote it."""
        value = self.form.removesuffix(" ...")
        fix = f"write {option} {value}"
        if self.kind == "flag":
            fix = f"write {option}, or --no-{option.removeprefix('--')}"
        elif self.kind in ("list", "mapping"):
            fix += f" {value} ...; they end at the next option or at --"
        return SettingError(option, expected=self.expected, found=found, fix=fix)


def _form(item: Any) -> str:
    if typing.get_origin(item) is Literal:
        return "|".join(map(str, typing.get_args(item)))
    if typing.get_origin(item) in (list, tuple):
        return "{0},{0}".format(_form(typing.get_args(item)[0]))
    return _SCALARS.get(item, ("VALUE", ""))[0]


def parameters_of(command: Command) -> dict[str, Parameter]:
    """Returns the parameters of a command by name, in their order."""
    hints = typing.get_type_hints(command)
    return {
        name: _parameter(name, hints[name], parameter.default is inspect.Parameter.empty)
        for name, parameter in inspect.signature(command).parameters.items()
    }


def _parameter(name: str, hint: Any, required: bool) -> Parameter:
    members = typing.get_args(hint) if typing.get_origin(hint) in (typing.Union, types.UnionType) else (hint,)
    optional = type(None) in members
    members = tuple(member for member in members if member is not type(None))
    for member in members:
        inner = typing.get_args(member) or (Any, Any)
        if list in (member, typing.get_origin(member)) or tuple in (member, typing.get_origin(member)):
            return Parameter(name, "list", inner[0], optional, required)
        if dict in (member, typing.get_origin(member)):
            return Parameter(name, "mapping", inner[1], optional, required)
    item = members[0] if len(members) == 1 else Any
    return Parameter(name, "flag" if item is bool else "value", item, optional, required)
