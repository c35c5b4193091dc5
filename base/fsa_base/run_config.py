"""Reads the config.gin of a run. Its bindings are only parsed, and nothing in it is imported or called."""

from __future__ import annotations

from dataclasses import dataclass, field
from tokenize import TokenError
from typing import Any, NamedTuple

from fsa_base.errors import SettingError

CONFIG = "config.gin"
"""File in MODEL_DIR with the whole configuration of a run."""
_DEEPEST = 10
"""A macro may be another macro; this many, then it is a circle."""


class Reference(NamedTuple):
    """A value ``@name`` or ``@name()``, which is not evaluated."""

    name: str


class _Macro(NamedTuple):
    name: str


@dataclass
class RunConfig:
    """The bindings of a run.

    Attributes:
      bindings: values by scope, configurable (``utils.DatasetConfig``) and argument, in the order of the file.
      macros: values by name.
    """

    bindings: dict[tuple[str, str, str], Any] = field(default_factory=dict)
    macros: dict[str, Any] = field(default_factory=dict)

    def value(self, name: str, scope: str = "") -> Any:
        """The value that is bound to an argument, or None.

        Args:
          name: end of the argument's name, such as ``DatasetConfig.batch_size``.
          scope: the scope of the binding, such as ``train``; a binding without a scope counts for every scope.
        """
        for wanted in dict.fromkeys((scope, "")):
            for (bound, selector, argument), value in self.bindings.items():
                if bound == wanted and f".{selector}.{argument}".endswith(f".{name}"):
                    return self._resolved(value)
        return None

    def values(self, argument: str) -> list[Any]:
        """All values that are bound to arguments of this name."""
        return [self._resolved(value) for (_, _, name), value in self.bindings.items() if name == argument]

    def macro(self, name: str) -> Any:
        """The value of a macro, or None."""
        return self._resolved(self.macros.get(name))

    def arguments(self, selector: str) -> dict[str, Any]:
        """The values by argument that are bound to a configurable without a scope.

        Args:
          selector: the configurable's name, with its module or without (``network.T5Config``, ``T5Config``).
        """
        return {
            argument: self._resolved(value)
            for (scope, name, argument), value in self.bindings.items()
            if not scope and f".{name}".endswith(f".{selector}")
        }

    def _resolved(self, value: Any) -> Any:
        for _ in range(_DEEPEST):
            if not isinstance(value, _Macro):
                return value
            value = self.macros.get(value.name)
        return None


def read_config(file: Any) -> RunConfig:
    """Returns the bindings of a config.gin; empty if there is no such file.

    Args:
      file: a ``pathlib.Path`` or an ``epath.Path``.

    Raises:
      SettingError: the file is not the configuration of a run.
    """
    config = RunConfig()
    if not file.exists():
        return config
    from gin import config_parser

    class Names(config_parser.ParserDelegate):
        def configurable_reference(self, scoped_configurable_name: str, evaluate: bool) -> Reference:
            return Reference(scoped_configurable_name)

        def macro(self, macro_name: str) -> _Macro:
            return _Macro(macro_name)

    try:
        for statement in config_parser.ConfigParser(file.read_bytes().decode(errors="replace"), Names()):
            if not isinstance(statement, config_parser.BindingStatement):
                continue
            if statement.arg_name:
                config.bindings[statement.scope, statement.selector, statement.arg_name] = statement.value
            else:
                config.macros[statement.selector] = statement.value
    # Python 3.12 and newer raise TokenError for what is not closed.
    except (SyntaxError, ValueError, RecursionError, TokenError) as error:
        raise SettingError(
            file, expected="the configuration of a run", found=str(error), fix="give a checkpoint"
        ) from error
    return config
