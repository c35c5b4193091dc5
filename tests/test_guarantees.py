"""Every promise of docs/guarantees.md names existing tests."""

from __future__ import annotations

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
_NAME = re.compile(
    r"(?P<file>(?:tests|benchmarks)/[\w/]+\.(?:py|md))(?:::(?P<first>test_\w+))?|(?:::)?\b(?P<more>test_\w+)"
)


def test_every_promise_names_an_existing_test() -> None:
    lines = (ROOT / "docs" / "guarantees.md").read_text("utf-8").splitlines()
    promises = [line for line in lines if line.startswith("|") and not re.match(r"\| (?:promise|---) ", line)]
    assert len(promises) > 50 and len(set(promises)) == len(promises)
    for promise in promises:
        shown_by = promise.rstrip("| ").rpartition(" | ")[2]
        found = list(_NAME.finditer(shown_by))
        assert found, promise
        file = ""
        for match in found:
            file = match["file"] or file
            assert (ROOT / file).is_file(), promise
            name = match["first"] or match["more"]
            assert name is None or name in _tests(ROOT / file), f"no {file}::{name}"


def _tests(file: Path) -> set[str]:
    return {node.name for node in ast.walk(ast.parse(file.read_text("utf-8"))) if isinstance(node, ast.FunctionDef)}
