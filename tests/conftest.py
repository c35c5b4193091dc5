"""Settings of every test: strict JAX, eight fake CPU devices, real data where it is there.

The environment is set before anything imports JAX or TensorFlow. Tests that start a process of their own build its
environment from ``os.environ`` and change what they test.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault("XLA_FLAGS", "--xla_force_host_platform_device_count=8")
os.environ.setdefault("JAX_NUMPY_RANK_PROMOTION", "raise")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="session")
def real_data_dir() -> Path:
    """The project's real data (docs/data.md); skips where it is absent, as on most users' machines."""
    configured = os.environ.get("FSA_DATA_DIR")
    directory = Path(configured) if configured else ROOT.parent / "shared" / "data"
    if not directory.is_dir():
        pytest.skip(f"the real data is not here: {directory} is no directory (set FSA_DATA_DIR)")
    return directory
