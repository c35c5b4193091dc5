"""Directories that appear whole or not at all."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from fsa_jax.errors import SettingError


@contextmanager
def written_aside(out: Path) -> Iterator[Path]:
    """Gives an empty directory beside ``out``, which becomes ``out`` when the block ends well and vanishes when not.

    Raises:
      SettingError: ``out`` exists already, or nothing can be written beside it.
    """
    if out.exists() or out.is_symlink():
        raise SettingError(
            out,
            expected="a path where nothing is yet",
            found="a directory" if out.is_dir() else "a file",
            fix=f"choose another output, or remove it first: rm -r {out}",
        )
    partial = out.parent / f".{out.name}.partial-{os.getpid()}"
    try:
        partial.mkdir(parents=True)
    except OSError as error:
        raise SettingError(
            out, expected="a place that can be written", found=str(error), fix="choose another output"
        ) from error
    try:
        yield partial
        partial.rename(out)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
