"""The outputs of the commands in the docs do not become files of the repository."""

from __future__ import annotations

import re
import shlex
import subprocess
from itertools import takewhile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
OUTPUT = {
    "sample": -1,
    "teach": 1,
    "check": 1,
    "corpus": 1,
    "import-hf": 1,
    "export-hf": 1,
    "export-ct2": 1,
    "predict": 2,
}
"""Position of the output among the inputs of a command."""


def outputs() -> set[str]:
    """Relative paths that the commands in the docs write."""
    found = set()
    for page in PAGES:
        for name, rest in re.findall(r"^fsa (\S+) (.+?)(?: +#.*)?$", page.read_text("utf-8"), re.MULTILINE):
            words = [
                *takewhile(lambda word: not word.startswith("-"), shlex.split(rest.rstrip("\\").partition("…")[0]))
            ]
            if name in OUTPUT:
                found.add(words[OUTPUT[name]])
    return found


def test_outputs_of_the_docs_are_ignored_by_git():
    if not (ROOT / ".git").exists():
        pytest.skip("not a git checkout")
    paths = sorted(outputs())
    assert {"data/reviews.parquet", "generations", "served", "exported", "predictions.jsonl"} <= set(paths)
    ignored = subprocess.run(
        [
            "git",
            "-C",
            str(ROOT),
            "check-ignore",
            "--no-index",
            *(f"{path}/file" if "." not in path else path for path in paths),
        ],
        capture_output=True,
        text=True,
        check=False,
    ).stdout.splitlines()
    assert {path.removesuffix("/file") for path in ignored} == set(paths)
