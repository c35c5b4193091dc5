"""What a command of the engine shows, and what it keeps to itself."""

from __future__ import annotations

import sys

import pytest

from t5x.configuration import command_line


class _Unraisable:
    def __init__(self, message: str) -> None:
        self.message = message

    def __del__(self) -> None:
        raise RuntimeError(self.message)


@pytest.mark.parametrize(("message", "times"), [("Event loop is closed", 0), ("another", 2)])
def test_exceptions_in_tensorstore_s_threads_after_a_failed_save_are_ignored(message, times, capsys, monkeypatch):
    monkeypatch.setattr(sys, "unraisablehook", command_line._report_unraisable)
    command_line._report(RuntimeError, RuntimeError(message), None)
    _Unraisable(message)
    assert capsys.readouterr().err.count(f"RuntimeError: {message}") == times
