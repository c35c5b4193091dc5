"""Paths of the project's data: one environment variable and one layout (docs/data.md)."""

from __future__ import annotations

import os
from pathlib import Path

from fsa_base.errors import MissingDataError

DATA_DIR_VARIABLE = "FSA_DATA_DIR"
STUDENT_VARIABLE = "FSA_STUDENT"
"""Environment variable with the imported model of a decoder-only student, an output directory of ``fsa import-hf``."""


def data_dir() -> Path:
    """The project's data directory: ``$FSA_DATA_DIR``, by default ``data/`` in the working directory."""
    return Path(os.environ.get(DATA_DIR_VARIABLE) or "data")


def require_file(path: Path, fix: str) -> Path:
    """Returns ``path`` if it is a file.

    Raises:
      MissingDataError: it is not a file; ``fix`` is the command or change that creates it.
    """
    if not path.is_file():
        found = "a directory" if path.is_dir() else "nothing"
        raise MissingDataError(path, expected="a file", found=found, fix=fix)
    return path


def shown(path: Path) -> str:
    """A path as text that can be encoded in UTF-8, even if the path has other bytes."""
    return str(path).encode("utf-8", "surrogateescape").decode("utf-8", "replace")
