"""Settings of all tests: strict JAX, eight fake CPU devices, and the real data if available.

The environment is set before anything imports JAX or TensorFlow. Tests that start a process derive its environment from
``os.environ``.
"""

from __future__ import annotations

import importlib.util
import os
import platform
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault("XLA_FLAGS", "--xla_force_host_platform_device_count=8")
os.environ.setdefault("JAX_NUMPY_RANK_PROMOTION", "raise")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

# If a shell starts `make test` in the background, it ignores Ctrl-C, and the commands of the tests would inherit this.
signal.signal(signal.SIGINT, signal.default_int_handler)

# How fast examples are made depends on the machine. The teacher's environment has no hypothesis.
if importlib.util.find_spec("hypothesis"):
    import hypothesis

    hypothesis.settings.register_profile(
        "untimed", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
    )
    hypothesis.settings.load_profile("untimed")

ROOT = Path(__file__).parents[1]
# With a shared compilation cache, tests, workers and their processes compile each small program only once.
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(ROOT / ".cache" / "xla" / platform.node()))
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES", "0")
LONG_FILES = (
    "cli/test_demo.py",
    "test_quickstart.py",
    "runtime/test_resume.py",
    "runtime/test_distributed.py",
    "runtime/test_several_processes.py",
    "runtime/test_train_full_disk.py",
    "test_chat_students.py",
    "runtime/test_checkpoints.py",
    "runtime/test_infer.py",
    "data/test_whole_shuffle.py",
    "teacher/test_store.py",
    "test_tasks.py",
    "runtime/test_models.py",
    "base/networks/test_t5_network.py",
    "runtime/test_precompile.py",
    "faults/test_faults_checkpoints.py",
    "teacher/test_teach.py",
    "serving/test_export_ct2.py",
    "journeys/test_journeys.py",
    "test_old_artefacts.py",
)
"""These long files start first (Makefile: --no-loadscope-reorder), so that all workers finish at about the same
time."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Moves the tests of LONG_FILES to the front; the others keep their order."""
    places = {ROOT / "tests" / name: place for place, name in enumerate(LONG_FILES)}
    items.sort(key=lambda item: places.get(item.path, len(places)))


def pytest_addoption(parser: pytest.Parser) -> None:
    """Adds ``--must-run``, for make targets of which some tests may be skipped, but not all."""
    parser.addoption("--must-run", action="store_true", help="fail where every test was skipped")


def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    """Fails a run with ``--must-run`` in which no test ran."""
    if hasattr(session.config, "workerinput") or not session.config.getoption("--must-run") or exitstatus:
        return
    reporter: Any = session.config.pluginmanager.get_plugin("terminalreporter")
    if not reporter.stats.get("passed"):
        reporter.write_line("ERROR: no test ran: every one was skipped, for the reasons below", red=True)
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def data_directory() -> Path:
    """The path of the project's real data, which may not exist."""
    configured = os.environ.get("FSA_DATA_DIR")
    return Path(configured) if configured else ROOT.parent / "shared" / "data"


@pytest.fixture(scope="session")
def real_data_dir() -> Path:
    """The project's real data (docs/data.md); skips the test if they are missing, as on most users' machines."""
    directory = data_directory()
    if not directory.is_dir():
        pytest.skip(f"the real data is not here: {directory} is no directory (set FSA_DATA_DIR)")
    return directory


@pytest.fixture
def mount_disk(tmp_path: Path) -> Iterator[Callable[[str], Path]]:
    """Mounts ``tmp_path / "disk"``, a real disk of a given size; skips the test if the user may not mount."""
    folder = tmp_path / "disk"
    folder.mkdir()

    def mount(size: str) -> Path:
        command = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)]
        try:
            run = subprocess.run(command, capture_output=True, text=True)
        except FileNotFoundError as error:
            pytest.skip(f"needs the right to mount a tmpfs: {error}")
        if run.returncode:
            pytest.skip(f"needs the right to mount a tmpfs: {run.stderr.strip()}")
        return folder

    yield mount
    subprocess.run(["umount", str(folder)], capture_output=True)
