"""Finds the files of a labelled dataset: one file, or a folder with files for training, dev and test."""

from __future__ import annotations

import re
from pathlib import Path

from fsa_base.checksums import is_of_the_system
from fsa_base.errors import DataError, MissingDataError
from fsa_jax.common.paths import shown
from fsa_jax.labels.formats import DOCS

SPLITS = ("train", "dev", "test")
_WORDS = {
    "train": "train",
    "training": "train",
    "dev": "dev",
    "devel": "dev",
    "development": "dev",
    "val": "dev",
    "valid": "dev",
    "validation": "dev",
    "test": "test",
    "testing": "test",
    "eval": "test",
}
_HARD = "hard"
_NO_LABELS = (
    ".md",
    ".py",
    ".pkl",
    ".zip",
    ".gz",
    ".tar",
    ".pdf",
    ".html",
    ".dtd",
    ".inference",
    ".ignore",
    ".yaml",
    ".yml",
)
_LISTED = 8


def files_of(source: Path) -> tuple[dict[str, Path], list[str]]:
    """The files of a dataset.

    Args:
      source: a file, or a folder whose files have ``train``, ``dev`` (``val`` …) or ``test`` in their names.

    Returns:
      The file of each part, and the names of other files in the folder. A single file is the part ``train``.

    Raises:
      MissingDataError: there is no such path, or no file of labels in the folder.
      DataError: two files are for the same part, or none is for training.
    """
    if source.is_file():
        return {"train": source}, []
    if not source.is_dir():
        raise MissingDataError(
            shown(source), expected="a file or folder of labels", found="nothing", fix=f"correct the path; see {DOCS}"
        )
    try:
        names = sorted(path.name for path in source.iterdir() if path.is_file())
    except OSError as error:
        raise DataError(
            shown(source), expected="a folder that can be read", found=str(error), fix="check its access rights"
        ) from error
    candidates = [
        name
        for name in names
        if not name.startswith(".") and not is_of_the_system(name) and Path(name).suffix.lower() not in _NO_LABELS
    ]
    by_part: dict[str, list[str]] = {}
    for name in candidates:
        if part := part_of(name):
            by_part.setdefault(part, []).append(name)
    if not by_part and len(candidates) == 1:
        return {"train": source / candidates[0]}, []
    _require_one_each(source, by_part, candidates)
    found = {part: source / files[0] for part, files in by_part.items()}
    used = {path.name for path in found.values()}
    return {part: found[part] for part in SPLITS if part in found}, [
        name for name in names if name not in used and not is_of_the_system(name)
    ]


def part_of(name: str) -> str | None:
    """The part that a file name means, by its last such word: ``Restaurants_Train_v2.xml`` is ``train``."""
    # Upper case inside a word begins a new one: restTrain.
    words = re.findall(r"[A-Z]?[a-z]+|[A-Z]+", name)
    parts = [part for word in words if (part := _WORDS.get(word.lower()))]
    return None if not parts or _HARD in map(str.lower, words) else parts[-1]


def _require_one_each(source: Path, by_part: dict[str, list[str]], candidates: list[str]) -> None:
    for part, files in by_part.items():
        if len(files) > 1:
            raise DataError(
                shown(source),
                expected=f"one file for {part}",
                found=", ".join(files[:_LISTED]),
                fix="give one file, or a folder with one file for each of train, dev and test",
            )
    if "train" not in by_part:
        folders = sorted(path.name for path in source.iterdir() if path.is_dir() and not path.name.startswith("."))
        listed = ", ".join([*candidates, *(f"{name}/" for name in folders)][:_LISTED]) or "an empty folder"
        raise MissingDataError(
            shown(source),
            expected="a file of labels with 'train' in its name, or a single file",
            found=listed,
            fix="give the file itself, or one of the folders in it",
        )
