"""Checks the types of gin's values against the annotations of the parameters to which they are bound.

Gin passes any literal to a parameter, so ``--gin.TRAIN_STEPS=2e5`` would cause a ``TypeError`` late in the run, after
data and model are loaded. Checked are literals that are bound to parameters with simple annotations (numbers, strings,
booleans, mappings, choices of words, and unions of these). References to configurables are not checked.
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
      SettingError: A value has the wrong type. The message names the macro if the value is that of a macro.
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
                    name, expected=_describe(accepted) + of, found=repr(value), fix=_fix(name, value, accepted)
                )


def _annotations(wrapped: Any) -> dict[str, Any]:
    function = wrapped.__init__ if inspect.isclass(wrapped) else wrapped
    try:
        return typing.get_type_hints(function)
    except Exception:  # An annotation uses a name that is imported for type checkers only.
        return {}


def _resolve(setting: str, given: Any, config: Any) -> tuple[str, Any]:
    """Follows macros; returns the name and the value at their end, or those given."""
    while str(given).startswith("%") and not isinstance(given, str):
        bound = config.get((str(given)[1:], "gin.macro"))
        if bound is None:
            return setting, None
        setting, given = str(given)[1:], bound["value"]
    return setting, given


def _plain(annotation: Any) -> frozenset[type]:
    """Returns the types that a simple annotation accepts; empty for other annotations."""
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
    """Returns the words that an annotation accepts; empty if it accepts any."""
    members = _members(annotation)
    if any(member not in (types.NoneType, None) and typing.get_origin(member) is not Literal for member in members):
        return []
    return [choice for member in members for choice in typing.get_args(member)]


def _members(annotation: Any) -> tuple[Any, ...]:
    union = typing.get_origin(annotation) in (typing.Union, types.UnionType)
    return typing.get_args(annotation) if union else (annotation,)


def _fits(value: Any, accepted: frozenset[type]) -> bool:
    if type(value) not in (int, float, str, bool, list, tuple, dict):
        return True  # a reference, or None, which some annotations do not mention
    if isinstance(value, int) and (accepted & {int, float} or (bool in accepted and value in (0, 1))):
        return True
    return isinstance(value, tuple(accepted))


def _describe(accepted: frozenset[type]) -> str:
    kinds = accepted - {int} if float in accepted else accepted
    return " or ".join(text for kind, text in _NAMES.items() if kind in kinds)


def _fix(name: str, value: Any, accepted: frozenset[type]) -> str:
    if isinstance(value, float) and value.is_integer() and int in accepted:
        return f"--gin.{name}={int(value)}"
    if isinstance(value, str) and value.replace(".", "", 1).isdigit():
        return f"--gin.{name}={value} without quotes"
    return f"--gin.{name}=VALUE" + (", with VALUE in its own quotes" if str in accepted else "")
