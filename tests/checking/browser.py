"""A real browser for tests of HTML pages."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest


def shown(page: Path, profile: Path) -> str:
    """The document that the browser outputs after it could run scripts; skips the test if there is no browser.

    Args:
      page: HTML file.
      profile: new folder for the browser's profile.
    """
    if shutil.which("chromium") is None:
        pytest.skip("needs a browser: apt-get install chromium")
    command = ["chromium", "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={profile}"]
    command += ["--virtual-time-budget=2000", "--dump-dom", page.as_uri()]
    return subprocess.run(command, capture_output=True, text=True, timeout=120).stdout
