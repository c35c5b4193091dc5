"""The three journeys of docs/architecture.md: each needs few files, and the document names exactly these files.

``python tests/journeys/journeys.py`` prints the files of each journey and their number.
"""

from __future__ import annotations

import gc
import importlib
import sys
import threading
from pathlib import Path
from types import ModuleType
from typing import Any
from unittest import mock

import called_files
import pytest

import journeys
from journeys import ROOT, Journey, all_journeys

LIMITS = {
    "training": 8,
    "prediction with CTranslate2": 12,
    "prediction with JAX from a checkpoint": 20,
    "prediction with JAX from Hugging Face files": 20,
    "sample": 12,
    "teach": 12,
    "check": 12,
    "corpus": 12,
    "SeqIO example": 12,
}
"""The largest allowed number of files by journey, without files of the network and of journeys.LEFT_OUT."""

DOCUMENT = ROOT / "docs" / "architecture.md"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Journey]:
    return all_journeys(tmp_path_factory.mktemp("journeys"))


def documented() -> dict[str, dict[str, str]]:
    """The files of each journey in docs/architecture.md, with their descriptions there."""
    section = DOCUMENT.read_text("utf-8").partition("\n## Three journeys\n")[2].partition("\n## ")[0]
    found: dict[str, dict[str, str]] = {}
    for part in section.split("\n### ")[1:]:
        block = part.partition("\n```text\n")[2].partition("\n```\n")[0]
        lines = [line.partition(" ") for line in block.splitlines()]
        found[part.partition("\n")[0]] = {file: said.strip() for file, _, said in lines}
    return found


@pytest.mark.parametrize("name", LIMITS)
def test_a_journey_has_few_files(made: dict[str, Journey], name: str):
    files = made[name].files
    if len(files) > LIMITS[name]:
        pytest.fail("\n".join([f"{len(files)} files, {LIMITS[name]} are allowed:", *files]), pytrace=False)


@pytest.mark.parametrize("name", LIMITS)
def test_the_documented_files_are_those_that_are_called(made: dict[str, Journey], name: str):
    called, named = [*made[name].files, *made[name].network], documented().get(name, {})
    if set(called) != set(named):
        width = max(map(len, called))
        block = "\n".join(f"{file:<{width}}  {named.get(file, '')}".rstrip() for file in called)
        message = (
            f"called, but not in {DOCUMENT}: {', '.join(sorted(set(called) - set(named))) or 'none'}",
            f"there, but not called: {', '.join(sorted(set(named) - set(called))) or 'none'}",
            f"put this there:\n\n### {name}\n\n```text\n{block}\n```",
        )
        pytest.fail("\n".join(message), pytrace=False)


def test_every_journey_has_a_limit_and_a_place_in_the_document(made: dict[str, Journey]):
    assert set(made) == set(LIMITS) == set(documented())


def test_every_pattern_of_what_is_left_out_still_has_a_file():
    patterns = [pattern for kinds in (journeys.HOOKS, journeys.DATA, *journeys.NETWORK.values()) for pattern in kinds]
    assert [pattern for pattern in patterns if not list(ROOT.glob(pattern))] == []


MODULE = """
import threading

def suspended(cycle):
    cycle.append(cycle)
    yield

def at_import():
    return [threading]

class Body:
    names = at_import()
    def method(self):
        return (lambda: 1)()

def in_thread():
    pass

ALL = [(lambda: name)() for name in at_import()]
"""


def test_calls_count_in_all_threads_and_imports_do_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    package = tmp_path / "package_of_calls"
    package.mkdir()
    for name in ("__init__", "imported", "called", "threaded"):
        (package / f"{name}.py").write_text(MODULE)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(called_files, "PACKAGES", {package.name: "place/package"})
    with called_files.recording() as called:
        from package_of_calls import called as module  # pyright: ignore[reportMissingImports]
        from package_of_calls import imported, threaded  # pyright: ignore[reportMissingImports]

        module.Body().method()
        thread = threading.Thread(target=threaded.in_thread)
        thread.start()
        thread.join()
        called.stop()
        imported.in_thread()
    assert called.functions == {
        "place/package/called.py": {"Body.method", "Body.method.<locals>.<lambda>"},
        "place/package/threaded.py": {"in_thread"},
    }
    assert sys.getprofile() is None
    assert gc.isenabled()


def test_generators_that_an_earlier_test_left_suspended_do_not_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    package = tmp_path / "package_of_generators"
    package.mkdir()
    (package / "__init__.py").write_text(MODULE)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(called_files, "PACKAGES", {package.name: "place/package"})
    module = importlib.import_module(package.name)
    with monkeypatch.context() as without_protection:
        without_protection.setattr(called_files, "gc", mock.Mock())
        assert _calls_at_a_collection(module) == {"place/package/__init__.py": {"suspended"}}
    assert _calls_at_a_collection(module) == {}


def _calls_at_a_collection(module: ModuleType) -> dict[str, set[str]]:
    """The functions that count if a suspended generator is garbage when the recording begins."""
    gc.disable()  # so that it is still there then
    cycle: list[Any] = []
    cycle.append(module.suspended(cycle))
    next(cycle[0])
    del cycle
    with called_files.recording() as called:
        gc.collect()
    gc.enable()
    return called.functions
