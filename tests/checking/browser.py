"""A real browser for the tests of pages."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest


def shown(page: Path, profile: Path) -> str:
    """The document as it stands after scripts had their chance, written out by the browser; skips where there is none.

    Args:
      page: HTML file.
      profile: new folder for what the browser keeps.
    """
    if shutil.which("chromium") is None:
        pytest.skip("needs a browser: apt-get install chromium")
    command = ["chromium", "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={profile}"]
    command += ["--virtual-time-budget=2000", "--dump-dom", page.as_uri()]
    return subprocess.run(command, capture_output=True, text=True, timeout=120).stdout
