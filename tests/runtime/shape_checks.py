"""Modules whose functions check the shapes and types that their signatures name, whenever they are called."""

from __future__ import annotations

import importlib
import sys
from types import ModuleType

from jaxtyping import install_import_hook


def checked(*names: str) -> list[ModuleType]:
    """Imports modules with checks, in this order; one that imports another of them gets the checked one.

    Other imports, before and after, get the modules without checks.
    """
    unchecked = [importlib.import_module(name) for name in names]
    for name in names:
        del sys.modules[name]
    with install_import_hook(names, "beartype.beartype"):
        modules = [importlib.import_module(name) for name in names]
    for name, module in zip(names, unchecked, strict=True):
        package, _, last = name.rpartition(".")
        sys.modules[name] = module
        setattr(sys.modules[package], last, module)
    return modules
