"""Which engine is installed, and the error where both are."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from fsa_jax import engine
from fsa_jax.errors import SettingError


def _install(monkeypatch, **versions: str) -> None:
    names = {"runtime": engine.RUNTIME_DISTRIBUTION, "upstream": engine.UPSTREAM_DISTRIBUTION}
    monkeypatch.setattr(engine, "_version", {names[key]: value for key, value in versions.items()}.get)


def test_this_environment_has_exactly_one_engine():
    found = engine.installed_engine()
    assert found is not None
    assert found.distribution in (engine.RUNTIME_DISTRIBUTION, engine.UPSTREAM_DISTRIBUTION)


def test_no_engine(monkeypatch):
    _install(monkeypatch)
    assert engine.installed_engine() is None


def test_both_engines_are_an_error_that_says_what_to_uninstall(monkeypatch):
    _install(monkeypatch, runtime="0.1.0", upstream="0.0.0")
    with pytest.raises(SettingError, match="pip uninstall t5x"):
        engine.installed_engine()


def test_importing_the_engine_with_upstream_also_installed_is_an_error(tmp_path: Path):
    """Upstream's package lies in front of ours, as pip leaves it; only what Python does at its start can tell."""
    (tmp_path / "t5x").mkdir()
    (tmp_path / "t5x" / "__init__.py").write_text("print('upstream')")
    (tmp_path / "t5x-0.0.0.dist-info").mkdir()
    (tmp_path / "t5x-0.0.0.dist-info" / "METADATA").write_text("Metadata-Version: 2.1\nName: t5x\nVersion: 0.0.0\n")
    found = subprocess.run([sys.executable, "-c", "import t5x"], cwd=tmp_path, capture_output=True, text=True)
    assert found.returncode and not found.stdout
    assert "pip uninstall t5x" in found.stderr
