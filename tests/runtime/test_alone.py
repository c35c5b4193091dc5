"""The engine's wheels hold all that it needs, and it works where fsa_jax is not installed."""

from __future__ import annotations

import re
import zipfile
from pathlib import Path

import pytest
from alone import Alone
from wheel_environment import ROOT

if not (ROOT / "runtime" / "pyproject.toml").exists():
    pytest.skip("the engine's sources are not here: it is installed alone already", allow_module_level=True)

FAST = ("test_losses.py", "test_schedules.py", "test_cache_tasks.py")
"""Of the engine's tests those that are run here too; ``make engine-alone`` runs all."""

_IMPORT_ALL = """
import importlib, pkgutil
import fsa_base, t5x

count = 0
for package in (fsa_base, t5x):
    assert "environment" in package.__file__, package.__file__
    for module in pkgutil.walk_packages(package.__path__, package.__name__ + "."):
        importlib.import_module(module.name)
        count += 1
try:
    import fsa_jax
except ModuleNotFoundError:
    print(count, "modules")
"""


@pytest.fixture(scope="module")
def alone(tmp_path_factory) -> Alone:
    return Alone(tmp_path_factory.mktemp("alone"))


@pytest.mark.parametrize(("name", "package"), [("base", "fsa_base"), ("runtime", "t5x")])
def test_a_wheel_holds_every_module_and_gin_file(alone, name, package):
    source = ROOT / name
    expected = {
        file.relative_to(source).as_posix()
        for kind in ("*.py", "*.gin", "py.typed")
        for file in (source / package).rglob(kind)
        if "__pycache__" not in file.parts
    }
    with zipfile.ZipFile(alone.wheels[name]) as wheel:
        names = set(wheel.namelist())
        (metadata,) = (wheel.read(found).decode() for found in names if found.endswith("/METADATA"))
    assert {found for found in names if ".dist-info/" not in found} == expected
    assert (source / "README.md").read_text().strip() in metadata
    assert all("Requires-Dist: fsa-jax\n" not in line for line in metadata.splitlines(keepends=True))


def test_every_module_is_imported_without_fsa_jax(alone):
    ran = alone.run("-c", _IMPORT_ALL)
    assert ran.returncode == 0, ran.stderr
    modules = [path for folder in ("base/fsa_base", "runtime/t5x") for path in (ROOT / folder).rglob("*.py")]
    assert ran.stdout.split()[0] == str(len(modules) - 2)  # the two packages themselves


def test_the_engine_s_tests_are_collected_and_the_fast_ones_pass(alone):
    files = sorted(path.name for path in Path(__file__).parent.glob("test_*.py") if path.name != Path(__file__).name)
    ran = alone.run("-m", "pytest", "--collect-only", "-qq", "tests/runtime")
    assert ran.returncode == 0, ran.stdout + ran.stderr
    collected = {re.sub(r".*/(\w+\.py).*", r"\1", line) for line in ran.stdout.splitlines()}
    assert collected >= {name for name in files if name != "test_project_files.py"}
    ran = alone.run("-m", "pytest", "-q", *(f"tests/runtime/{name}" for name in FAST))
    assert ran.returncode == 0, ran.stdout + ran.stderr
