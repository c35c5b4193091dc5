"""Where the gin files are: inside the package in a wheel, at the top of a checkout otherwise."""

from __future__ import annotations

from pathlib import Path

import fsa_jax
from fsa_base import extras


def root() -> Path:
    """Returns the folder with the folder ``gin/`` of fsa_jax.

    The engine searches it after the working directory (entry point ``t5x.gin_search_paths`` in pyproject.toml).
    """
    package = Path(fsa_jax.__file__).resolve().parent
    return package.parent if extras.is_checkout() else package
