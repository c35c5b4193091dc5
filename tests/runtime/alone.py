"""Tests of the engine where it is installed alone, from its wheels: without this repository and without fsa_jax.

    python tests/runtime/alone.py tests/runtime             # all of them, which takes as long as anywhere
    python tests/runtime/alone.py tests/runtime/test_losses.py -x

Arguments are pytest's. The environment is made anew in a temporary directory each time; packages other than the
engine's two are those of the Python that runs this.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from wheel_environment import NO_CACHE, ROOT, WheelEnvironment, variables

DISTRIBUTIONS = ("base", "runtime")
"""Folders of the distributions that the engine consists of."""

_BLOCKER = "import sys\n\nsys.modules['fsa_jax'] = None  # not to be found\n"
_PYTEST = "[pytest]\naddopts = -ra --strict-markers -p no:cacheprovider\npythonpath = tests/runtime\n"


class Alone:
    """An environment in ``directory`` in which the engine is installed from its wheels and fsa_jax cannot be imported.

    Attributes:
      wheels: the wheels, by the name of the distribution's folder.
      checkout: a folder with the engine's tests and nothing else of this repository.
    """

    def __init__(self, directory: Path) -> None:
        self._environment = WheelEnvironment(directory, DISTRIBUTIONS)
        self.wheels = self._environment.wheels
        # For an fsa_jax that lies in the folder of the running Python's packages itself.
        (self._environment.packages / "sitecustomize.py").write_text(_BLOCKER)
        self.checkout = directory / "checkout"
        for part in ("runtime", "testdata/conformance"):
            shutil.copytree(ROOT / "tests" / part, self.checkout / "tests" / part, ignore=NO_CACHE)
        shutil.copy(ROOT / "tests" / "conftest.py", self.checkout / "tests")
        (self.checkout / "pytest.ini").write_text(_PYTEST)

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Runs the environment's Python in :attr:`checkout`, and returns what it printed."""
        return self._environment.run(*arguments, cwd=self.checkout)

    def call(self, *arguments: str) -> int:
        """Runs the environment's Python in :attr:`checkout` with this process's output; returns its exit status."""
        command = [str(self._environment.python), *arguments]
        return subprocess.call(command, cwd=self.checkout, env=variables())


def main() -> int:
    """Runs pytest with the arguments of the command line; returns its exit status."""
    with tempfile.TemporaryDirectory() as directory:
        return Alone(Path(directory)).call("-m", "pytest", *sys.argv[1:])


if __name__ == "__main__":
    sys.exit(main())
