"""Stages of a flow that can be stopped anywhere: what is complete is not done again, the rest goes on.

A stage is known by a key, the hash of everything that decides what it computes, its predecessors' keys included. Its
marker says which key was begun or done. A stage whose key is done is skipped; one whose key was begun keeps its files,
so that training resumes from its checkpoints; with any other key its files are deleted first.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fsa_base import disk
from fsa_base.errors import SettingError

_FORMAT = 2
"""Part of every key: raise it when a stage computes something else from the same settings."""


@dataclass(frozen=True)
class Stage:
    """One stage.

    Args:
      name: unique; a path below the marker directory.
      settings: what decides the stage's result, in JSON.
      after: stages whose results it reads.
      outputs: files or folders that it owns, all of which are there when it is complete.
    """

    name: str
    settings: Mapping[str, Any]
    outputs: tuple[Path, ...]
    after: Sequence[Stage] = ()

    @property
    def key(self) -> str:
        content = json.dumps(
            [_FORMAT, self.name, self.settings, [stage.key for stage in self.after]], sort_keys=True, default=str
        )
        return hashlib.sha256(content.encode()).hexdigest()


class Ledger:
    """Which stages are done, in a folder of markers."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def is_done(self, stage: Stage) -> bool:
        """Whether the stage is complete under this very key and its outputs are still there."""
        marker = self._read(stage)
        return (
            marker.get("key") == stage.key
            and marker.get("state") == "done"
            and all(output.exists() for output in stage.outputs)
        )

    def seconds(self, stage: Stage) -> float:
        """Seconds that the stage took, over all its starts."""
        return float(self._read(stage).get("seconds", 0.0))

    @contextmanager
    def working_on(self, stage: Stage) -> Iterator[None]:
        """Marks the stage as begun, clears what another key left, and marks it as done if no exception escapes."""
        self.begin(stage)
        started = time.monotonic()
        try:
            yield
        except BaseException:
            self._write(stage, "begun", self.seconds(stage) + time.monotonic() - started)
            raise
        self.finish(stage, time.monotonic() - started)

    def begin(self, stage: Stage) -> None:
        """Marks the stage as begun; files of another key are deleted."""
        marker = self._read(stage)
        if marker.get("key") == stage.key:
            self._write(stage, "begun", self.seconds(stage))
            return
        for output in stage.outputs:
            if output.is_dir() and not output.is_symlink():
                shutil.rmtree(output)
            else:
                output.unlink(missing_ok=True)
        self._write(stage, "begun", 0.0)

    def finish(self, stage: Stage, seconds: float) -> None:
        """Marks the stage as done; ``seconds`` are those since it was begun."""
        self._write(stage, "done", self.seconds(stage) + seconds)

    def _marker(self, stage: Stage) -> Path:
        return self._directory / f"{stage.name}.json"

    def _read(self, stage: Stage) -> dict[str, Any]:
        try:
            return json.loads(self._marker(stage).read_text())
        except (FileNotFoundError, json.JSONDecodeError):  # A marker that a power cut left empty counts as none.
            return {}

    def _write(self, stage: Stage, state: str, seconds: float) -> None:
        marker = self._marker(stage)
        marker.parent.mkdir(parents=True, exist_ok=True)
        aside = marker.with_suffix(".tmp")
        aside.write_text(json.dumps({"key": stage.key, "state": state, "seconds": round(seconds, 1)}))
        aside.replace(marker)


PATIENCE_SECONDS = 20.0
"""How long a folder's claim is waited for."""

_MARK = "This folder was made by fsa demo, which may delete what is in it.\n"


@contextmanager
def claimed(root: Path, stages: Path) -> Iterator[int]:
    """Makes ``root`` the demo's own for as long as the context lasts; yields a file descriptor that holds the claim.

    Processes that inherit the descriptor hold the claim too, so that no two demos train into one folder even after one
    was killed and left a training behind.

    Raises:
      SettingError: it is a file, cannot be written, holds somebody's files, or another demo works in it.
    """
    fix = "choose a new or empty folder with --out"
    if root.exists() and not root.is_dir():
        raise SettingError("--out", expected="a folder", found=f"a file, {root}", fix=fix)
    if root.is_dir() and not stages.is_dir() and any(root.iterdir()):
        found = f"{root}, which holds other files ({', '.join(sorted(os.listdir(root))[:3])} …)"
        raise SettingError("--out", expected="a new or empty folder, or one that fsa demo made", found=found, fix=fix)
    try:
        stages.mkdir(parents=True, exist_ok=True)
        handle = (stages / "lock").open("a+")
        (stages / "README").write_text(_MARK)
    except OSError as error:
        raise SettingError("--out", expected="a folder that can be written", found=str(error), fix=fix) from error
    with handle:
        _lock(handle.fileno(), root)
        yield handle.fileno()


def _lock(descriptor: int, root: Path) -> None:
    try:
        # A training whose demo was killed saves its state and stops within seconds.
        disk.lock(descriptor, PATIENCE_SECONDS)
    except BlockingIOError:
        raise SettingError(
            "--out",
            expected=f"no other demo in {root}",
            found="one that is running",
            fix="wait for it, stop it, or choose another folder with --out",
        ) from None
