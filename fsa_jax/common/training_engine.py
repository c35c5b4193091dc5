"""Finds the training engine that provides the package ``t5x``: the one in runtime/, or upstream T5X, but never both.

Both install the same package, so the one that Python happens to find first would be used silently; a run must not
depend on that. ``fsa_jax.data.task_builders``, which every run imports, checks it.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib import metadata

from fsa_base.errors import SettingError

PACKAGE = "t5x"
RUNTIME_DISTRIBUTION = "fsa-jax-runtime"
UPSTREAM_DISTRIBUTION = "t5x"
KEEPING_MEMORY = {
    "GLIBC_TUNABLES": "glibc.malloc.hugetlb=1:glibc.malloc.trim_threshold=4294967296:glibc.malloc.top_pad=268435456"
}
"""Environment in which the engine is faster on a CPU, with the same results. XLA frees its buffers after every step. By
default glibc then returns the memory, and mapping it again takes up to a sixth of the time; these settings keep it, in
huge pages."""


@dataclass(frozen=True)
class Engine:
    """An installed training engine: name of its distribution, version and description."""

    distribution: str
    version: str
    description: str


def _version(distribution: str) -> str | None:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return None


def installed_engine() -> Engine | None:
    """Returns the installed engine; None if there is none.

    Raises:
      SettingError: both engines are installed.
    """
    runtime, upstream = _version(RUNTIME_DISTRIBUTION), _version(UPSTREAM_DISTRIBUTION)
    if runtime and upstream:
        raise SettingError(
            "installed packages",
            expected="one training engine that provides the package t5x",
            found=f"two: {RUNTIME_DISTRIBUTION} {runtime} and upstream {UPSTREAM_DISTRIBUTION} {upstream}",
            fix=f"pip uninstall {UPSTREAM_DISTRIBUTION}  (or, to keep upstream: pip uninstall {RUNTIME_DISTRIBUTION})",
        )
    if runtime:
        return Engine(RUNTIME_DISTRIBUTION, runtime, "our independent implementation of the T5X contract (runtime/)")
    if upstream:
        return Engine(UPSTREAM_DISTRIBUTION, upstream, "upstream google-research/t5x")
    return None
