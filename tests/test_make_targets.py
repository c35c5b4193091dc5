"""A target whose tests were all skipped fails."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SKIPPED = "import pytest\n\n\n@pytest.mark.skip(reason='needs the moon')\ndef test_moon():\n    pass\n"


def run(folder: Path, content: str, *options: str) -> subprocess.CompletedProcess[str]:
    """Runs pytest on a file with the project's test settings."""
    (folder / "test_it.py").write_text(content)
    (folder / "conftest.py").write_text("from tests.conftest import pytest_addoption, pytest_sessionfinish  # noqa\n")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--rootdir", str(folder), *options]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run(
        [*command, str(folder)], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )


@pytest.mark.parametrize("workers", [[], ["-n", "2"]], ids=["one process", "two workers"])
def test_a_run_that_skips_everything_fails(tmp_path, workers):
    skipped = run(tmp_path, SKIPPED, "--must-run", *workers)
    assert skipped.returncode == 1 and "no test ran" in skipped.stdout
    assert run(tmp_path, SKIPPED + "\n\ndef test_here():\n    pass\n", "--must-run", *workers).returncode == 0


@pytest.mark.parametrize("target", ["parity", "conformance", "survival", "test-teacher"])
def test_the_make_targets_use_must_run(target):
    lines = (ROOT / "Makefile").read_text().split(f"\n{target}: ")[1].split("\n\n")[0]
    assert "-m pytest" in lines and "--must-run" in lines
