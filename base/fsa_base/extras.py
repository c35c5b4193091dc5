"""Errors about missing packages, with the command that installs them (an extra of pyproject.toml, or a file)."""

from __future__ import annotations

import functools
import re
from importlib import metadata
from pathlib import Path

from fsa_base.errors import SettingError

DISTRIBUTION = "fsa-jax"
MACHINES = {"cpu": "requirements.txt", "cuda": "requirements-cuda.txt", "tpu": "requirements-tpu.txt"}
"""The extras that install everything for a kind of machine, with the requirements file that does so in a checkout."""
_MESSAGE = re.compile(r"No module named '([\w.]+)'")
_NAME = re.compile(r"[\w.-]+")
_EXTRA = re.compile(r"""extra\s*==\s*["']([\w-]+)["']""")


@functools.cache
def requirements() -> dict[str, tuple[str, ...]]:
    """Returns the extras that install a distribution, by the distribution's name in lower case and with hyphens.

    Those of MACHINES, which install everything, are left out. The result is empty if fsa_jax itself is not installed.
    """
    found: dict[str, tuple[str, ...]] = {}
    try:
        listed = metadata.requires(DISTRIBUTION) or ()
    except metadata.PackageNotFoundError:  # a checkout on PYTHONPATH
        listed = ()
    for requirement in listed:
        name, extra = _NAME.match(requirement), _EXTRA.search(requirement)
        if name and extra and extra[1] not in MACHINES:
            key = _normalised(name[0])
            found[key] = (*found.get(key, ()), extra[1])
    return found


def extras_of(module: str) -> tuple[str, ...]:
    """Returns the extras that install a module; empty if none does.

    Example:
      ``("train",)`` for ``orbax.checkpoint``, which is in the distribution orbax-checkpoint.
    """
    top = _normalised(module.split(".")[0])
    if not top:
        return ()
    known = requirements()
    if top in known:
        return known[top]
    return next((extras for name, extras in sorted(known.items()) if name.startswith(f"{top}-")), ())


def not_installed(module: str, where: object = "", instead: str = "") -> SettingError:
    """Returns the error for a module that is needed but not installed.

    Args:
      module: name with which the module is imported.
      where: the file, command or setting that needs it.
      instead: what the user can do instead.
    """
    extras = extras_of(module)
    one = f", or only this extra: {install(extras[0])}" if extras else ""
    return SettingError(
        where or f"import {module}",
        expected=f"the package {module.split('.')[0]}" + (f" (extra {' or '.join(extras)})" if extras else ""),
        found="it is not installed",
        fix=f"{install('cpu')}{one}{f'; or {instead}' if instead else ''}",
    )


def is_checkout() -> bool:
    """Returns whether this code is part of a checkout, and was not installed from a wheel."""
    return (Path(__file__).parents[1] / "pyproject.toml").is_file()


def install(extra: str) -> str:
    """Returns the command that installs an extra, for how fsa_jax was installed: from a checkout, or from its wheels.

    Example:
      ``pip install -r requirements.txt`` for ``cpu`` in a checkout.
    """
    if not is_checkout():
        return f"pip install -c constraints.txt '{DISTRIBUTION}[{extra}]'"
    options = f"-r {MACHINES[extra]}" if extra in MACHINES else f"-e ./base -e '.[{extra}]'"
    return f"pip install {options} (in the checkout)"


def error_of(error: ImportError) -> SettingError | None:
    """Returns the user's error if a module of an extra is not installed; None for any other import error."""
    # If gin re-raised the error, the name of the module is only in the message.
    named = _MESSAGE.search(str(error))
    name = error.name or (named[1] if named else "")
    if not isinstance(error, ModuleNotFoundError) or not extras_of(name):
        return None
    return not_installed(name)


def _normalised(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()
