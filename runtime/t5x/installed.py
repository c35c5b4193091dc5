"""Gin files and modules with SeqIO tasks that installed distributions provide, so that a run needs no checkout.

A distribution names them by entry points in its pyproject.toml::

    [project.entry-points."t5x.gin_search_paths"]
    fsa_jax = "fsa_jax.common.installed_files:root"    # a function that returns a folder

    [project.entry-points."t5x.task_modules"]
    tasks = "fsa_jax.tasks"    # the module that is imported for MIXTURE_OR_TASK_MODULE = "tasks"

A file or module of the same name in the working directory comes first.
"""

from __future__ import annotations

import functools
import importlib
import importlib.util
import os
import sys
from importlib import metadata


@functools.cache
def gin_search_paths() -> tuple[str, ...]:
    """Returns the folders with gin files of installed distributions."""
    points = sorted(metadata.entry_points(group="t5x.gin_search_paths"), key=lambda point: point.name)
    return tuple(dict.fromkeys(str(point.load()()) for point in points))


def task_module(name: str) -> str:
    """Returns the name with which to import the module ``name`` of SeqIO tasks.

    That is ``name`` itself, if there is such a module in the working directory or on ``sys.path``. Otherwise it is the
    module that an installed distribution provides under this name, if there is one.
    """
    if not {"", os.getcwd()} & set(sys.path):
        # A console script such as t5x_train has the folder of the script there instead.
        sys.path.insert(0, os.getcwd())
    return name if _exists(name) else _provided_modules().get(name, name)


def import_task_module(name: str) -> str:
    """Imports the module ``name`` of SeqIO tasks.

    Returns:
      A line that says which file was read, if it was imported just now and an installed distribution provides a module
      of this name; otherwise the empty text.

    Raises:
      ModuleNotFoundError: There is no such module, or it imports one that is missing.
    """
    found = task_module(name)
    is_new = found not in sys.modules
    module = importlib.import_module(found)
    return f"tasks: {module.__file__}" if is_new and name in _provided_modules() else ""


@functools.cache
def _provided_modules() -> dict[str, str]:
    return {point.name: point.value for point in metadata.entry_points(group="t5x.task_modules")}


def _exists(name: str) -> bool:
    try:
        return name in sys.modules or importlib.util.find_spec(name) is not None
    except ModuleNotFoundError:  # a parent package is missing
        return False
