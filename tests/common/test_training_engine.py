"""Which engine is installed, and the error if both are."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from fsa_base.errors import SettingError
from fsa_jax.common import training_engine


def _install(monkeypatch, **versions: str) -> None:
    names = {"runtime": training_engine.RUNTIME_DISTRIBUTION, "upstream": training_engine.UPSTREAM_DISTRIBUTION}
    monkeypatch.setattr(training_engine, "_version", {names[key]: value for key, value in versions.items()}.get)


def test_this_environment_has_exactly_one_engine():
    found = training_engine.installed_engine()
    assert found is not None
    assert found.distribution in (training_engine.RUNTIME_DISTRIBUTION, training_engine.UPSTREAM_DISTRIBUTION)


def test_no_engine(monkeypatch):
    _install(monkeypatch)
    assert training_engine.installed_engine() is None


def test_both_engines_are_an_error_that_says_what_to_uninstall(monkeypatch):
    _install(monkeypatch, runtime="0.1.0", upstream="0.0.0")
    with pytest.raises(SettingError, match="pip uninstall t5x"):
        training_engine.installed_engine()


def test_a_run_with_upstream_also_installed_is_an_error(tmp_path: Path):
    """Python finds upstream's package before ours, as after an installation with pip."""
    (tmp_path / "t5x").mkdir()
    (tmp_path / "t5x" / "__init__.py").write_text("print('upstream')")
    (tmp_path / "t5x-0.0.0.dist-info").mkdir()
    (tmp_path / "t5x-0.0.0.dist-info" / "METADATA").write_text("Metadata-Version: 2.1\nName: t5x\nVersion: 0.0.0\n")
    found = subprocess.run([sys.executable, "-c", "import fsa_jax.tasks"], cwd=tmp_path, capture_output=True, text=True)
    assert found.returncode and not found.stdout
    assert "pip uninstall t5x" in found.stderr
