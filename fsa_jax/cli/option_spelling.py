"""Accepts the usual spelling of options: ``--dry-run`` for ``dry_run``, flags without a value, and ``--from``.

jsonargparse accepts only the exact name of a parameter, and needs ``true`` or ``false`` after a boolean option. A
parameter cannot be called ``from``, so ``from_`` has the option ``--from``. If a command has the parameter
``engine_flags``, it gets the flags that belong to the training engine.
"""

from __future__ import annotations

import inspect
import itertools
import json
import re
from collections.abc import Callable
from typing import Any

from jsonargparse import ArgumentParser

ENGINE_FLAGS = "engine_flags"
"""Parameter of commands that start the training engine."""


class Parser(ArgumentParser):
    """A parser whose help shows ``--from`` and not ``--from_``."""

    def format_usage(self) -> str:
        return re.sub(r"(--[a-z]+)_ ([A-Z]+)_", r"\1 \2", super().format_usage())

    def format_help(self) -> str:
        text = re.sub(r"(\n  --[a-z]+)_ ([A-Z]+)_", r"\1 \2  ", super().format_help())
        return re.sub(r"(--[a-z]+)_ ([A-Z]+)_", r"\1 \2", text)


def spelt_out(command: Callable[..., Any], arguments: list[str]) -> list[str]:
    """Converts arguments to jsonargparse's spelling; arguments that are not options of ``command`` are unchanged.

    Example:
      ``["reviews.parquet", "--dry-run", "--no-send-seed", "--top-p", "1"]`` becomes
      ``["reviews.parquet", "--dry_run=true", "--send_seed=false", "--top_p", "1"]``
    """
    parameters = inspect.signature(command).parameters
    flags = {name for name, parameter in parameters.items() if parameter.annotation in (bool, "bool")}
    result = []
    passed_on = []
    for argument, following in itertools.pairwise([*arguments, ""]):
        option, equals, value = argument.partition("=")
        name, dot, key = option[2:].partition(".")
        name = name.replace("-", "_")
        if f"{name}_" in parameters:
            name = f"{name}_"
        if not argument.startswith("--"):
            result.append(argument)
        elif name not in parameters and ENGINE_FLAGS in parameters and _is_of_engine(name):
            passed_on.append(argument)
        elif name not in parameters and name.removeprefix("no_") not in flags:
            result.append(argument)
        elif name not in parameters:
            result.append(f"--{name.removeprefix('no_')}=false")
        elif name in flags and not equals and following.lower() not in ("true", "false", "yes", "no"):
            result.append(f"--{name}=true")
        else:
            result.append(f"--{name}{dot}{key}{equals}{value}")
    return [*result, f"--{ENGINE_FLAGS}={json.dumps(passed_on)}"] if passed_on else result


def _is_of_engine(name: str) -> bool:
    from fsa_jax.training.engine_command import ENGINE_FLAGS as names

    return name == "gin" or name.removeprefix("no") in names or name.startswith("jax_")
