"""Which engine is installed, and the error where both are."""

from __future__ import annotations

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
