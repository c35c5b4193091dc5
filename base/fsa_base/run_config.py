"""Reads the ``config.gin`` in a run's MODEL_DIR. The file is only parsed: nothing in it is imported or called."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, NamedTuple

from fsa_base.errors import SettingError

CONFIG = "config.gin"


class _Macro(NamedTuple):
    name: str


@dataclass(frozen=True)
class RunConfig:
    """The values that a run's config.gin binds; references to functions (``@name()``) are None.

    Attributes:
      macros: values of the macros by name, such as ``TRAIN_STEPS``.
      bindings: values by selector and parameter, such as ``("train/utils.DatasetConfig", "batch_size")``.
    """

    macros: dict[str, Any] = field(default_factory=dict)
    bindings: dict[tuple[str, str], Any] = field(default_factory=dict)

    def macro(self, name: str) -> Any:
        """The value of a macro; None if it has none."""
        return self._resolved(self.macros.get(name))

    def parameters(self, function: str) -> dict[str, Any]:
        """The values of the parameters of a function or class by name, without its module and scope: ``T5Config``."""
        return {
            parameter: self._resolved(value)
            for (selector, parameter), value in self.bindings.items()
            if selector.rpartition("/")[2].rpartition(".")[2] == function
        }

    def values(self, parameter: str) -> set[Any]:
        """The texts to which a parameter of this name is bound, in whatever function."""
        found = {self._resolved(value) for (_, name), value in self.bindings.items() if name == parameter}
        return {value for value in found if isinstance(value, str)}

    def _resolved(self, value: Any) -> Any:
        for _ in range(8):  # macros may refer to macros, in a damaged file also to themselves
            if not isinstance(value, _Macro):
                return value
            value = self.macros.get(value.name)
        return None


def read(file: Any) -> RunConfig | None:
    """Returns the content of a config.gin; None if there is no such file.

    Raises:
      SettingError: it cannot be parsed.
    """
    if not file.exists():
        return None
    from gin import config_parser

    class Names(config_parser.ParserDelegate):
        def configurable_reference(self, scoped_configurable_name: str, evaluate: bool) -> None:
            return None

        def macro(self, macro_name: str) -> Any:
            return _Macro(macro_name)

    config = RunConfig()
    try:
        for statement in config_parser.ConfigParser(file.read_bytes().decode(errors="replace"), Names()):
            if not isinstance(statement, config_parser.BindingStatement):
                continue
            if statement.arg_name:
                scope = f"{statement.scope}/" if statement.scope else ""
                config.bindings[f"{scope}{statement.selector}", statement.arg_name] = statement.value
            else:
                config.macros[statement.selector] = statement.value
    except (SyntaxError, ValueError, RecursionError) as error:
        raise SettingError(
            file, expected="the configuration of a run", found=str(error), fix="give a checkpoint"
        ) from error
    return config
