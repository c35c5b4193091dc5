"""All requirements have exact versions, and the files agree where they must."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]


def lines(name: str) -> set[str]:
    text = (ROOT / name).read_text(encoding="utf-8").splitlines()
    return {line for line in text if line and not line.startswith("#")}


def test_upstreams_requirements_have_the_same_pins():
    """Upstream T5X is installed on Python 3.11 only."""
    ours = {line.split("; ")[0] for line in lines("requirements.txt") if ">= " not in line}
    upstream = lines("requirements-t5x.txt")
    assert ours - upstream == {"-e ./runtime"}
    assert {line.split(" @ ")[0] for line in upstream - ours if " @ " in line} == {"t5x", "airio", "jestimator"}


@pytest.mark.parametrize("path", sorted(ROOT.glob("requirements*.txt")), ids=lambda path: path.name)
def test_every_requirement_is_exact(path):
    for line in lines(path.name):
        at_commit = " @ git+" in line and len(line.rsplit("@", 1)[1]) == 40
        elsewhere = line.startswith(("-e ", "-r ", "--"))
        assert "==" in line or elsewhere or at_commit, line


@pytest.mark.parametrize("python", ["3.11", "3.12", "3.13"])
def test_accelerators_get_the_same_jax(python):
    def pins(name: str) -> dict[str, str]:
        requirements = [Requirement(line) for line in lines(name) if "==" in line]
        return {
            each.name: str(each.specifier)
            for each in requirements
            if each.marker is None or each.marker.evaluate({"python_version": python})
        }

    jax = pins("requirements.txt")["jax"]
    assert jax == ("==0.10.2" if python == "3.11" else "==0.12.0.1")
    assert pins("requirements.txt")["jaxlib"] == jax
    cuda = pins("requirements-cuda.txt")
    assert {name for name in cuda if name.startswith("jax-cuda12")} == {"jax-cuda12-pjrt", "jax-cuda12-plugin"}
    assert cuda["jax-cuda12-pjrt"] == cuda["jax-cuda12-plugin"] == jax
    assert "libtpu" in pins("requirements-tpu.txt")
    for name in ("requirements-cuda.txt", "requirements-tpu.txt"):
        assert "-r requirements.txt" in lines(name)


def test_the_constraints_for_the_wheels_are_the_tested_versions():
    """If this fails: make constraints.txt."""
    files = ("requirements.txt", "requirements-cuda.txt", "requirements-tpu.txt", "requirements-parity.txt")
    pins = {line for name in files for line in lines(name) if "==" in line}
    assert (ROOT / "constraints.txt").read_text().splitlines() == sorted(pins)


def test_the_extras_are_installed_with_tested_versions():
    pinned = {canonicalize_name(Requirement(line).name) for line in lines("constraints.txt")}
    for folder in (".", "base", "runtime"):
        project = tomllib.loads((ROOT / folder / "pyproject.toml").read_text())["project"]
        assert project["requires-python"] == ">=3.11,<3.14"
        extras = project.get("optional-dependencies", {})
        for line in [*project["dependencies"], *(line for names in extras.values() for line in names)]:
            name = canonicalize_name(Requirement(line).name)
            assert name in pinned or name.startswith("fsa-jax"), (folder, line)
    assert {"cpu", "cuda", "tpu", "teacher", "serve", "benchmark"} <= set(
        tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    )
