"""Stages of a flow that can be stopped at any point: complete stages are not repeated, an incomplete one is resumed.

The key of a stage is a hash of everything that influences its result, including the keys of the stages before it. The
marker of a stage records its key and whether it was begun or is done. A stage that is done with the same key is
skipped. A stage that was begun with the same key keeps its files, so that training resumes from its checkpoints. With
any other key the files of the stage are deleted first.
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
"""Part of every key. Increase it when a stage computes a different result from the same settings."""


@dataclass(frozen=True)
class Stage:
    """One stage of a flow.

    Args:
      name: unique name, used as a path below the directory of markers.
      settings: settings that influence the result, as JSON values.
      after: stages whose results this stage reads.
      outputs: files or folders of this stage; all exist when it is complete.
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
    """A folder of markers, which records the stages that are done."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def is_done(self, stage: Stage) -> bool:
        """Whether the stage is done with this key and its outputs still exist."""
        marker = self._read(stage)
        return (
            marker.get("key") == stage.key
            and marker.get("state") == "done"
            and all(output.exists() for output in stage.outputs)
        )

    def seconds(self, stage: Stage) -> float:
        """Seconds that the stage took, summed over all its starts."""
        return float(self._read(stage).get("seconds", 0.0))

    @contextmanager
    def working_on(self, stage: Stage) -> Iterator[None]:
        """Marks the stage as begun, deletes files of another key, and marks it as done if no exception is raised."""
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
        """Marks the stage as done; ``seconds`` is the time since this start."""
        self._write(stage, "done", self.seconds(stage) + seconds)

    def _marker(self, stage: Stage) -> Path:
        return self._directory / f"{stage.name}.json"

    def _read(self, stage: Stage) -> dict[str, Any]:
        try:
            return json.loads(self._marker(stage).read_text())
        except (FileNotFoundError, json.JSONDecodeError):  # An empty marker, after a power cut, counts as missing.
            return {}

    def _write(self, stage: Stage, state: str, seconds: float) -> None:
        marker = self._marker(stage)
        marker.parent.mkdir(parents=True, exist_ok=True)
        aside = marker.with_suffix(".tmp")
        aside.write_text(json.dumps({"key": stage.key, "state": state, "seconds": round(seconds, 1)}))
        aside.replace(marker)


PATIENCE_SECONDS = 20.0
"""Seconds to wait for the lock of a folder."""

_MARK = "This folder was made by fsa demo, which may delete what is in it.\n"


@contextmanager
def claimed(root: Path, stages: Path) -> Iterator[int]:
    """Locks the folder ``root`` for this demo while the context lasts; yields the file descriptor that holds the lock.

    Processes that inherit the descriptor also hold the lock. So two demos never train in the same folder, even if one
    was killed while its training still runs.

    Raises:
      SettingError: ``root`` is a file, cannot be written, has other files, or is used by another demo.
    """
    fix = "choose a new or empty folder with --out"
    if root.exists() and not root.is_dir():
        raise SettingError("--out", expected="a folder", found=f"a file, {root}", fix=fix)
    if root.is_dir() and not stages.is_dir() and any(root.iterdir()):
        found = f"{root}, which has other files ({', '.join(sorted(os.listdir(root))[:3])} …)"
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
        # If a demo was killed, its training saves its state and stops within seconds, so waiting helps.
        disk.lock(descriptor, PATIENCE_SECONDS)
    except BlockingIOError:
        raise SettingError(
            "--out",
            expected=f"no other demo in {root}",
            found="one that is running",
            fix="wait for that demo, stop it, or choose another folder with --out",
        ) from None
