"""All requirements have exact versions, and the files agree where they must."""

from __future__ import annotations

from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def lines(name: str) -> set[str]:
    text = (ROOT / name).read_text(encoding="utf-8").splitlines()
    return {line for line in text if line and not line.startswith("#")}


def test_upstreams_requirements_have_the_same_pins():
    ours, upstream = lines("requirements.txt"), lines("requirements-t5x.txt")
    assert ours - upstream == {"-e ./runtime"}
    assert {line.split(" @ ")[0] for line in upstream - ours if " @ " in line} == {"t5x", "airio", "jestimator"}


@pytest.mark.parametrize("path", sorted(ROOT.glob("requirements*.txt")), ids=lambda path: path.name)
def test_every_requirement_is_exact(path):
    for line in lines(path.name):
        at_commit = " @ git+" in line and len(line.rsplit("@", 1)[1]) == 40
        elsewhere = line.startswith(("-e ", "-r ", "--"))
        assert "==" in line or elsewhere or at_commit, line


def test_accelerators_get_the_same_jax():
    jax = next(line for line in lines("requirements.txt") if line.startswith("jax=="))
    plugins = {line for line in lines("requirements-cuda.txt") if line.startswith("jax-cuda")}
    assert {plugin.split("==")[1] for plugin in plugins} == {jax.split("==")[1]}
    for name in ("requirements-cuda.txt", "requirements-tpu.txt"):
        assert "-r requirements.txt" in lines(name)
