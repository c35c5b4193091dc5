"""A command of the training engine: shown as a user would type it, and run in its own process."""

from __future__ import annotations

import importlib.util
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NoReturn

from fsa_base import extras
from fsa_base.errors import SettingError
from fsa_jax.common.shell_words import typed
from fsa_jax.common.training_engine import KEEPING_MEMORY

ENGINE_FLAGS = {
    "compilation_cache": True,
    "coordinator_address": True,
    "gin_bindings": True,
    "gin_file": True,
    "gin_search_paths": True,
    "initialization_timeout": True,
    "multiprocess_gpu": False,
    "process_count": True,
    "process_index": True,
    "seqio_additional_cache_dirs": True,
    "tfds_data_dir": True,
    "verbose": False,
}
"""The flags of all commands of the engine, which ``fsa train`` and ``fsa eval`` pass on, as they do ``--gin.NAME``.

The values say whether the next word is the flag's value."""


def refuse_bound_names(flags: Sequence[str], options: Mapping[str, str]) -> None:
    """Raises the user's error if a flag of the engine binds a name that an option of the command is for.

    Otherwise the command would look for the run, or its scores, where they are not.

    Args:
      flags: flags of the engine, as the user wrote them.
      options: the option for each gin name.
    """
    for flag in flags:
        name = flag.removeprefix("--gin_bindings=").removeprefix("--gin.").partition("=")[0].strip()
        if name in options and flag.startswith(("--gin.", "--gin_bindings=")):
            raise SettingError(flag, expected=options[name], found="a binding of gin", fix=f"use {options[name]}")


def require_engine() -> None:
    """Raises the user's error if the engine or its input pipeline is not installed."""
    for module in ("seqio", "t5x"):
        if importlib.util.find_spec(module) is None:
            raise extras.not_installed(module)


_STOPPING = (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGTERM)


@dataclass(frozen=True)
class EngineCommand:
    """``python -m MODULE --gin_file=… --gin.NAME=VALUE …`` with its environment variables.

    Args:
      module: module of the engine, such as ``t5x.train``.
      gin_files: gin files in their order.
      bindings: values of gin names, as Python values.
      environment: environment variables to set.
      flags: further flags, as the user wrote them.
    """

    module: str
    gin_files: Sequence[str]
    bindings: Mapping[str, Any]
    environment: Mapping[str, str] = field(default_factory=dict)
    flags: Sequence[str] = ()

    @property
    def arguments(self) -> list[str]:
        """The words after ``python``."""
        files = [f"--gin_file={file}" for file in self.gin_files]
        bindings = [f"--gin.{name}={value!r}" for name, value in self.bindings.items()]
        return ["-m", self.module, *files, *bindings, *self.flags]

    def __str__(self) -> str:
        """The command as a user would type it."""
        found = shutil.which("python")
        is_this = found is not None and os.path.realpath(found) == os.path.realpath(sys.executable)
        return typed(["python" if is_this else sys.executable, *self.arguments], self.environment)

    def replace_process(self) -> NoReturn:
        """Becomes the command, which then gets the signals sent to this process and gives it its exit status."""
        sys.stdout.flush()
        sys.stderr.flush()
        os.execve(sys.executable, [sys.executable, *self.arguments], self._whole_environment())

    def _whole_environment(self) -> dict[str, str]:
        return {**KEEPING_MEMORY, **os.environ, **self.environment}

    def run(self) -> int:
        """Runs the command and returns its exit status. Signals that stop this process are passed on to it."""
        received: list[int] = []
        process: subprocess.Popen[bytes] | None = None

        def pass_on(number: int, frame: Any) -> None:
            del frame
            received.append(number)
            if process is not None:
                process.send_signal(number)

        before = {number: signal.signal(number, pass_on) for number in _STOPPING}
        try:
            process = subprocess.Popen(
                [sys.executable, *self.arguments],
                env=self._whole_environment(),
                # In a new session, Ctrl-C reaches the command once, from here, and not a second time from the terminal.
                start_new_session=True,
            )
            for number in received:  # before the command was there
                process.send_signal(number)
            status = process.wait()
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
        return 128 - status if status < 0 else status
