"""An environment into which the wheels of this repository are installed, as users install them."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import venv
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).parents[2]
_PROJECT = ("fsa_jax", "gin", "pyproject.toml", "setup.py", "README.md", "LICENSE")
"""What the wheel of the distribution at the top of the repository is built from."""

NO_CACHE = shutil.ignore_patterns("__pycache__", "*.egg-info", "build")


class WheelEnvironment:
    """An environment in ``directory`` with wheels of this repository; other packages are those of the running Python.

    Args:
      directory: a folder for the wheels and the environment.
      folders: the folders of the distributions, relative to the repository; ``.`` is the project itself.

    Attributes:
      wheels: the wheels, by folder.
      packages: the environment's folder of packages.
      python: the environment's interpreter.
    """

    def __init__(self, directory: Path, folders: Sequence[str]) -> None:
        self.wheels = {folder: _build(folder, directory / f"wheel of {folder}") for folder in folders}
        environment = directory / "environment"
        venv.create(environment, symlinks=True)
        self.python = environment / "bin" / "python"
        pip = [sys.executable, "-m", "pip", "--quiet", "--python", str(self.python), "--disable-pip-version-check"]
        install = [*pip, "install", "--no-deps", "--no-index", "--no-compile", *map(str, self.wheels.values())]
        subprocess.run(install, check=True, env=variables())
        self.packages = next(environment.glob("lib/python*/site-packages"))
        # A folder that a .pth file names is searched, but .pth files in it, such as those of editable installations,
        # are not read.
        (self.packages / "others.pth").write_text(sysconfig.get_path("purelib") + "\n")

    def run(self, *arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
        """Runs the environment's Python in ``cwd``, and returns what it printed."""
        command = [str(self.python), *arguments]
        return subprocess.run(command, cwd=cwd, env=variables(), text=True, capture_output=True, check=False)


def variables() -> dict[str, str]:
    """The environment variables without those that would make a checkout's code come first."""
    return {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}


def _build(folder: str, directory: Path) -> Path:
    """Returns the wheel of a distribution; built from a copy, since setuptools writes beside the sources."""
    copy = directory / "source"
    if folder == ".":
        copy.mkdir(parents=True)
        for name in _PROJECT:
            if (ROOT / name).is_dir():
                shutil.copytree(ROOT / name, copy / name, ignore=NO_CACHE)
            else:
                shutil.copy(ROOT / name, copy)
    else:
        shutil.copytree(ROOT / folder, copy, ignore=NO_CACHE)
    options = ["--quiet", "--no-deps", "--no-index", "--no-build-isolation", "--disable-pip-version-check"]
    subprocess.run([sys.executable, "-m", "pip", "wheel", *options, "-w", str(directory), str(copy)], check=True)
    (wheel,) = directory.glob("*.whl")
    return wheel
