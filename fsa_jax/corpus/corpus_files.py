"""The files of a built corpus: their names, and the comparison with their checksums."""

from __future__ import annotations

from pathlib import Path

from fsa_jax.common import output_checksums
from fsa_jax.common.atomic_directory import only_files
from fsa_jax.corpus.statistics import STATISTICS

CARD = "README.md"
BUILD_AGAIN = "build it again: fsa corpus CHECKED DATA_DIR --overwrite"
_FORMS = ("analysis/*.*.*/*", "rewriting/*.*.*/*")
PATTERNS = (*_FORMS, ".config/*", CARD, STATISTICS, *output_checksums.FILES)
FOREIGN = only_files(*PATTERNS, marks=[CARD, *_FORMS])


def require_whole(root: Path) -> None:
    """Compares the files of a corpus with their checksums, once per process (:func:`output_checksums.require_whole`).

    Raises:
      DataError: a file is missing or damaged.
    """
    output_checksums.require_whole(root, metadata=STATISTICS, fix=BUILD_AGAIN)
