"""Tests of the engine where it is installed alone, from its wheels: without this repository and without fsa_jax.

    python tests/runtime/alone.py tests/runtime             # all of them, which takes as long as anywhere
    python tests/runtime/alone.py tests/runtime/test_losses.py -x

Arguments are pytest's. The environment is made anew in a temporary directory each time; packages other than the
engine's two are those of the Python that runs this.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import venv
from pathlib import Path

ROOT = Path(__file__).parents[2]
DISTRIBUTIONS = ("base", "runtime")
"""Folders of the distributions that the engine consists of."""

_BLOCKER = "import sys\n\nsys.modules['fsa_jax'] = None  # not to be found\n"
_PYTEST = "[pytest]\naddopts = -ra --strict-markers -p no:cacheprovider\npythonpath = tests/runtime\n"


class Alone:
    """An environment in ``directory`` in which the engine is installed from its wheels and fsa_jax cannot be imported.

    Attributes:
      wheels: the wheels, by the name of the distribution's folder.
      python: the environment's interpreter.
      checkout: a folder with the engine's tests and nothing else of this repository.
    """

    def __init__(self, directory: Path) -> None:
        self.wheels = {name: _build(ROOT / name, directory / name) for name in DISTRIBUTIONS}
        environment = directory / "environment"
        venv.create(environment, symlinks=True)
        self.python = environment / "bin" / "python"
        pip = [sys.executable, "-m", "pip", "--quiet", "--python", str(self.python), "--disable-pip-version-check"]
        wheels = map(str, self.wheels.values())
        install = [*pip, "install", "--no-deps", "--no-index", "--no-compile", *wheels]
        subprocess.run(install, check=True, env=_variables())
        packages = next(environment.glob("lib/python*/site-packages"))
        # A folder that a .pth file names is searched, but .pth files in it, such as those of editable installations,
        # are not read. The blocker is for an fsa_jax that lies in the folder itself.
        (packages / "others.pth").write_text(sysconfig.get_path("purelib") + "\n")
        (packages / "sitecustomize.py").write_text(_BLOCKER)
        self.checkout = directory / "checkout"
        for part in ("runtime", "testdata/conformance"):
            shutil.copytree(ROOT / "tests" / part, self.checkout / "tests" / part, ignore=_NO_CACHE)
        shutil.copy(ROOT / "tests" / "conftest.py", self.checkout / "tests")
        (self.checkout / "pytest.ini").write_text(_PYTEST)

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Runs the environment's Python in :attr:`checkout`, and returns what it printed."""
        command = [str(self.python), *arguments]
        return subprocess.run(command, cwd=self.checkout, env=_variables(), text=True, capture_output=True, check=False)

    def call(self, *arguments: str) -> int:
        """Runs the environment's Python in :attr:`checkout` with this process's output; returns its exit status."""
        return subprocess.call([str(self.python), *arguments], cwd=self.checkout, env=_variables())


def _variables() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}


_NO_CACHE = shutil.ignore_patterns("__pycache__", "*.egg-info", "build")


def _build(source: Path, directory: Path) -> Path:
    """Returns the wheel of the distribution in ``source``; built from a copy, since setuptools writes beside it."""
    copy = shutil.copytree(source, directory / "source", ignore=_NO_CACHE)
    options = ["--quiet", "--no-deps", "--no-index", "--no-build-isolation", "--disable-pip-version-check"]
    subprocess.run([sys.executable, "-m", "pip", "wheel", *options, "-w", str(directory), str(copy)], check=True)
    (wheel,) = directory.glob("*.whl")
    return wheel


def main() -> int:
    """Runs pytest with the arguments of the command line; returns its exit status."""
    with tempfile.TemporaryDirectory() as directory:
        return Alone(Path(directory)).call("-m", "pytest", *sys.argv[1:])


if __name__ == "__main__":
    sys.exit(main())
