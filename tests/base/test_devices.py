"""Messages about devices, tested in separate processes because JAX finds its devices only once per process."""

from __future__ import annotations

import os
import subprocess
import sys


def _run(code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    inherited = {name: value for name, value in os.environ.items() if name not in ("JAX_PLATFORMS", "XLA_FLAGS")}
    return subprocess.run(
        [sys.executable, "-c", code], env=inherited | environment, capture_output=True, text=True, timeout=120
    )


def test_a_warning_names_a_gpu_that_jax_does_not_use():
    code = """
import jax._src.hardware_utils as hardware
hardware.has_visible_nvidia_gpu = lambda: True
from fsa_base import devices
found = devices.find()
print(found, found.warnings, devices.find().warnings)
"""
    ran = _run(code)
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.startswith("1 x cpu (cpu) ('An NVIDIA GPU may be present")
    assert ran.stdout.endswith(" ()\n") and not ran.stderr


def test_a_platform_that_jax_does_not_have():
    ran = _run("from fsa_base import devices; devices.find()", JAX_PLATFORMS="cuda")
    assert "SettingError: JAX_PLATFORMS=cuda: expected a device that JAX can use" in ran.stderr
    assert "pip install -r requirements-cuda.txt" in ran.stderr


def test_a_command_prints_its_devices_first():
    ran = _run(
        "import sys; from t5x.configuration import command_line; command_line._say_devices()", JAX_PLATFORMS="cpu"
    )
    assert ran.stderr == "devices: 1 x cpu (cpu)\n"
