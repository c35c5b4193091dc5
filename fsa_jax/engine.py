"""Finds the training engine that provides the package ``t5x``: the one in runtime/, or upstream T5X, but never both.

Both install the same package name. If both were installed, Python would silently use the one that it finds first.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.abc import MetaPathFinder

from fsa_jax.errors import SettingError

PACKAGE = "t5x"
RUNTIME_DISTRIBUTION = "fsa-jax-runtime"
UPSTREAM_DISTRIBUTION = "t5x"


@dataclass(frozen=True)
class Engine:
    """An installed training engine: name of its distribution, version and description."""

    distribution: str
    version: str
    description: str


def _version(distribution: str) -> str | None:
    from importlib import metadata  # Imported here because it is slow, and every start of Python imports this module.

    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return None


def installed_engine() -> Engine | None:
    """Returns the installed engine; None if there is none.

    Raises:
      SettingError: both engines are installed.
    """
    runtime, upstream = _version(RUNTIME_DISTRIBUTION), _version(UPSTREAM_DISTRIBUTION)
    if runtime and upstream:
        raise SettingError(
            "installed packages",
            expected="one training engine that provides the package t5x",
            found=f"two: {RUNTIME_DISTRIBUTION} {runtime} and upstream {UPSTREAM_DISTRIBUTION} {upstream}",
            fix=f"pip uninstall {UPSTREAM_DISTRIBUTION}  (or, to keep upstream: pip uninstall {RUNTIME_DISTRIBUTION})",
        )
    if runtime:
        return Engine(RUNTIME_DISTRIBUTION, runtime, "our independent implementation of the T5X contract (runtime/)")
    if upstream:
        return Engine(UPSTREAM_DISTRIBUTION, upstream, "upstream google-research/t5x")
    return None


class _OneEngine(MetaPathFinder):
    """An import hook that finds no modules, but raises an error for ``import t5x`` if two engines are installed."""

    def find_spec(self, fullname: str, path: Sequence[str] | None, target: object = None) -> None:
        if fullname == PACKAGE:
            installed_engine()


def watch_imports() -> None:
    """Makes ``import t5x`` raise :func:`installed_engine`'s error; runtime/fsa_jax_one_engine.pth calls this."""
    if not any(isinstance(finder, _OneEngine) for finder in sys.meta_path):
        sys.meta_path.insert(0, _OneEngine())
