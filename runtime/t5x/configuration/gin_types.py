"""Gin's values against the annotations of what they are bound to, before anything runs.

Gin hands over whatever literal it was given, so that ``--gin.TRAIN_STEPS=2e5`` would fail as a ``TypeError`` deep in
the run, after the data and the model are there. Only literals and plain annotations (numbers, strings, truth values,
mappings, choices of words, and unions of these) are looked at; what a reference makes is its own business.
"""

from __future__ import annotations

import collections.abc
import inspect
import types
import typing
from typing import Any, Literal

import gin
from fsa_base.errors import SettingError, require_choice

_NAMES = {int: "an integer", float: "a number", str: "a string", bool: "True or False", dict: "a dictionary"}


def check() -> None:
    """Checks every binding of gin's configuration.

    Raises:
      SettingError: a value that its parameter cannot take; macros are named by their own names.
    """
    config: Any = gin.config._CONFIG
    for (scope, selector), bindings in config.items():
        configurable = gin.config._REGISTRY.get_match(selector)
        if configurable is None or selector.endswith(".macro"):
            continue
        annotations = _annotations(configurable.wrapped)
        for parameter, given in bindings.items():
            setting = f"{scope}/{selector}".lstrip("/") + f".{parameter}"
            name, value = _resolve(setting, given, config)
            accepted = _plain(annotations.get(parameter))
            if isinstance(value, str) and (choices := _choices(annotations.get(parameter))):
                require_choice(name, value, choices)
            if accepted and not _fits(value, accepted):
                of = "" if name == setting else f", as {setting} takes"
                raise SettingError(
                    name, expected=_describe(accepted) + of, found=repr(value), fix=_mend(name, value, accepted)
                )


def _annotations(wrapped: Any) -> dict[str, Any]:
    function = wrapped.__init__ if inspect.isclass(wrapped) else wrapped
    try:
        return typing.get_type_hints(function)
    except Exception:  # Names that a module imports for type checkers alone; nothing can be said of such a function.
        return {}


def _resolve(setting: str, given: Any, config: Any) -> tuple[str, Any]:
    """Returns the name and the value behind macros, or those given."""
    while str(given).startswith("%") and not isinstance(given, str):
        bound = config.get((str(given)[1:], "gin.macro"))
        if bound is None:
            return setting, None
        setting, given = str(given)[1:], bound["value"]
    return setting, given


def _plain(annotation: Any) -> frozenset[type]:
    """The types that an annotation accepts; empty where it is not plain."""
    found = set()
    for member in _members(annotation):
        origin = typing.get_origin(member) or member
        if origin is Literal:
            found |= {type(choice) for choice in typing.get_args(member)}
            continue
        if origin in (collections.abc.Mapping, dict):
            found.add(dict)
        elif origin in (int, float, str, bool):
            found.add(origin)
        elif origin is not types.NoneType:
            return frozenset()
    return frozenset(found)


def _choices(annotation: Any) -> list[str]:
    """The words that an annotation accepts; empty where it accepts any."""
    members = _members(annotation)
    if any(member not in (types.NoneType, None) and typing.get_origin(member) is not Literal for member in members):
        return []
    return [choice for member in members for choice in typing.get_args(member)]


def _members(annotation: Any) -> tuple[Any, ...]:
    union = typing.get_origin(annotation) in (typing.Union, types.UnionType)
    return typing.get_args(annotation) if union else (annotation,)


def _fits(value: Any, accepted: frozenset[type]) -> bool:
    if type(value) not in (int, float, str, bool, list, tuple, dict):
        return True  # a reference, or None, which older annotations leave unsaid
    if isinstance(value, int) and (accepted & {int, float} or (bool in accepted and value in (0, 1))):
        return True
    return isinstance(value, tuple(accepted))


def _describe(accepted: frozenset[type]) -> str:
    kinds = accepted - {int} if float in accepted else accepted
    return " or ".join(text for kind, text in _NAMES.items() if kind in kinds)


def _mend(name: str, value: Any, accepted: frozenset[type]) -> str:
    if isinstance(value, float) and value.is_integer() and int in accepted:
        return f"--gin.{name}={int(value)}"
    if isinstance(value, str) and value.replace(".", "", 1).isdigit():
        return f"--gin.{name}={value} without quotes"
    return f"--gin.{name}=VALUE" + (", with VALUE in quotes of its own" if str in accepted else "")
