"""The two sets of requirements differ in the engine and in nothing else."""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).parents[1]


def lines(name: str) -> set[str]:
    text = (ROOT / name).read_text(encoding="utf-8").splitlines()
    return {line for line in text if line and not line.startswith("#")}


def test_upstreams_requirements_have_the_same_pins():
    ours, upstream = lines("requirements.txt"), lines("requirements-t5x.txt")
    assert ours - upstream == {"-e ./runtime"}
    assert {line.split(" @ ")[0] for line in upstream - ours if " @ " in line} == {"t5x", "airio", "jestimator"}


def test_every_requirement_is_exact():
    for name in ("requirements.txt", "requirements-t5x.txt"):
        for line in lines(name):
            at_commit = " @ git+" in line and len(line.rsplit("@", 1)[1]) == 40
            assert "==" in line or line.startswith("-e ") or at_commit, f"{name}: {line}"
