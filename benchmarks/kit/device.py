"""The machine, and what its device can do: products of large bfloat16 matrices, and copies in its memory."""

from __future__ import annotations

import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from importlib import metadata
from typing import Any

import jax
import jax.numpy as jnp

from benchmarks._machine import processor
from benchmarks.kit.rows import Slice

PACKAGES = (
    "jax",
    "jaxlib",
    "jax-cuda13-plugin",
    "jax-cuda12-plugin",
    "flax",
    "optax",
    "numpy",
    "torch",
    "transformers",
)
TURNS, REPEATS = 7, 10


def seconds(run: Callable[..., jax.Array], *arguments: jax.Array) -> list[float]:
    """Sorted seconds of a call, without compilation: means of several calls each."""
    jax.block_until_ready(run(*arguments))
    times = []
    for _ in range(TURNS):
        began = time.perf_counter()
        jax.block_until_ready([run(*arguments) for _ in range(REPEATS)])
        times.append((time.perf_counter() - began) / REPEATS)
    return sorted(times)


def peak(width: int) -> dict[str, Any]:
    """Operations per second of a product of random bfloat16 matrices. Zeros would be faster than real data."""
    first, second = (jax.random.normal(jax.random.key(seed), (width, width), jnp.bfloat16) for seed in (0, 1))
    times = seconds(jax.jit(jnp.matmul), first, second)
    operations = 2 * width**3 / 1e12
    return {
        "tflops": operations / statistics.median(times),
        "range": [operations / times[-1], operations / times[0]],
        "width": width,
    }


def bandwidth(size: int) -> dict[str, Any]:
    """Bytes per second that are read and written by a copy that changes every value."""
    values = jax.random.normal(jax.random.key(0), (size // 4,), jnp.float32)
    times = seconds(jax.jit(lambda x: x + 1), values)
    moved = 2 * size / 1e9
    return {"gigabytes_per_second": moved / statistics.median(times), "range": [moved / times[-1], moved / times[0]]}


def environment() -> dict[str, Any]:
    """Versions and the device."""
    found = {}
    for name in PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    device = jax.devices()[0]
    memory = (device.memory_stats() or {}).get("bytes_limit")
    try:
        command = ["nvidia-smi", "--query-gpu=name,driver_version,memory.total", "--format=csv,noheader"]
        driver = subprocess.run(command, capture_output=True, text=True, check=False, timeout=20).stdout.strip()
    except (OSError, subprocess.TimeoutExpired):
        driver = ""
    return {
        "device": f"{device.platform} {device.device_kind}",
        "devices": jax.device_count(),
        "memory_limit": memory,
        "driver": driver,
        "processor": processor(),
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "executable": sys.executable,
        "xla_flags": os.environ.get("XLA_FLAGS", ""),
        "versions": found,
    }


def main() -> None:
    """Writes the rows of the slice."""
    run = Slice.from_command_line(__doc__)
    run.measure("machine", environment)
    run.measure("peak", lambda: peak(run.size.matrix))
    run.measure("bandwidth", lambda: bandwidth(run.size.copied))


if __name__ == "__main__":
    main()
