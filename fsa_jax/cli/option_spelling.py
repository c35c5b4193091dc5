"""Accepts the usual spelling of options: ``--dry-run`` for ``dry_run``, and flags without a value.

jsonargparse accepts only the exact name of a parameter, and needs ``true`` or ``false`` after a boolean option.
"""

from __future__ import annotations

import inspect
import itertools
from collections.abc import Callable
from typing import Any


def spelt_out(command: Callable[..., Any], arguments: list[str]) -> list[str]:
    """Converts arguments to jsonargparse's spelling; arguments that are not options of ``command`` are unchanged.

    Example:
      ``["reviews.parquet", "--dry-run", "--no-send-seed", "--top-p", "1"]`` becomes
      ``["reviews.parquet", "--dry_run=true", "--send_seed=false", "--top_p", "1"]``
    """
    parameters = inspect.signature(command).parameters
    flags = {name for name, parameter in parameters.items() if parameter.annotation in (bool, "bool")}
    result = []
    for argument, following in itertools.pairwise([*arguments, ""]):
        option, equals, value = argument.partition("=")
        name, dot, key = option[2:].partition(".")
        name = name.replace("-", "_")
        if not argument.startswith("--") or (name not in parameters and name.removeprefix("no_") not in flags):
            result.append(argument)
        elif name not in parameters:
            result.append(f"--{name.removeprefix('no_')}=false")
        elif name in flags and not equals and following.lower() not in ("true", "false", "yes", "no"):
            result.append(f"--{name}=true")
        else:
            result.append(f"--{name}{dot}{key}{equals}{value}")
    return result
