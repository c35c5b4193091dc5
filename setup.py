"""Adds the gin files, which stand at the top of a checkout, to the package: fsa_jax/gin in a wheel.

All other settings are in pyproject.toml, which cannot add folders to the packages that it finds.
"""

from setuptools import find_packages, setup

setup(
    packages=[*find_packages(include=["fsa_jax*"]), "fsa_jax.gin", "fsa_jax.gin.models"],
    package_dir={"fsa_jax.gin": "gin", "fsa_jax.gin.models": "gin/models"},
)
