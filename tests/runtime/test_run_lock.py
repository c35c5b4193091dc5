"""Two runs never train into one directory."""

from __future__ import annotations

import os
import threading
import time

import pytest
import tiny_run

from fsa_base.errors import SettingError
from t5x.hooks import run_directory


def test_a_second_run_is_refused_and_names_the_first(tmp_path, monkeypatch):
    monkeypatch.setattr(run_directory, "PATIENCE_SECONDS", 0.0)
    with (
        run_directory.claimed(str(tmp_path)),
        pytest.raises(SettingError, match=f"no other run in .* one that is training: process {os.getpid()} on"),
    ):
        tiny_run.run(tmp_path, 4)
    assert tiny_run.run(tmp_path, 4)[0] == 4


def test_a_run_waits_for_the_previous_one_to_end(tmp_path):
    first = run_directory.claimed(str(tmp_path))
    first.__enter__()
    began = time.monotonic()
    threading.Timer(0.5, first.__exit__, (None, None, None)).start()
    with run_directory.claimed(str(tmp_path)):
        assert time.monotonic() - began >= 0.4


def test_a_directory_on_a_disk_without_locks_is_not_protected(tmp_path, monkeypatch):
    def flock(descriptor, operation):
        raise OSError(37, "No locks available")

    monkeypatch.setattr("fcntl.flock", flock)
    with run_directory.claimed(str(tmp_path)), run_directory.claimed(str(tmp_path)):
        pass
