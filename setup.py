"""Adds the gin files, which stand at the top of a checkout, to the package: fsa_jax/gin in a wheel.

All other settings are in pyproject.toml, which cannot add folders to the packages that it finds.
"""

from pathlib import Path

from setuptools import find_packages, setup

folders = [Path("gin"), *sorted(path for path in Path("gin").iterdir() if path.is_dir())]
names = {"fsa_jax." + ".".join(folder.parts): folder.as_posix() for folder in folders}
setup(packages=[*find_packages(include=["fsa_jax*"]), *names], package_dir=names)
