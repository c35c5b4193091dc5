"""The files of a checkpoint: what a checkpoint is, and whether its files are as they were written. Needs no JAX.

::

    checkpoint_<step>/state/                Orbax's arrays
                      dataset/              position in the training data, and dataset/checksums.sha256 of its files
                      _CHECKPOINT_METADATA  JSON; says that this checkpoint has checksums
                      checksums.sha256      of state/ and _CHECKPOINT_METADATA
                      commit_success.txt    the digests of both lists

:func:`begin` writes the metadata, :func:`seal` the lists and the marker, and :func:`verify` compares. The metadata
announces the lists, the marker holds their digests, and a list names the metadata: no single file can change or vanish
unnoticed.
``dataset/`` has a list of its own because it may be deleted later (:func:`forget_dataset`).

Paths may be ``pathlib.Path`` or ``epath.Path``.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import sys
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from fsa_base import checksums
from fsa_base.disk import as_path, replacing, sync
from fsa_base.errors import CheckpointError, DamagedCheckpointError

STATE = "state"
DATASET = "dataset"
METADATA = "_CHECKPOINT_METADATA"
COMMITTED = "commit_success.txt"
LEGACY = "checkpoint"
"""The file of T5X's checkpoints before Orbax."""
FORMAT = 1
"""Of the lists and the marker."""

_STEP = re.compile(r"checkpoint_(\d+)")
_MARKER = re.compile(
    rf"checkpoint of step (?P<step>\d+), complete\nformat {FORMAT}\n"
    rf"{checksums.LIST} (?P<state>[0-9a-f]{{64}})\n"
    rf"{DATASET}/{checksums.LIST} (?P<dataset>[0-9a-f]{{64}}|pruned)\n"
)
_DELETED_DATASET = f"{DATASET}.tmp-delete"
_NOT_LISTED = (COMMITTED, DATASET, _DELETED_DATASET, f"{COMMITTED}.tmp")
_SHOWN = 6


def step_of(path: Any) -> int | None:
    """Returns the training step in a checkpoint's name, None where it has none."""
    match = _STEP.fullmatch(path.name)
    return int(match[1]) if match else None


def is_checkpoint(path: Any) -> bool:
    """Returns whether ``path`` (also a string) is a checkpoint, whole or damaged.

    It is one by its name, ``checkpoint_<step>``, or by any of its files: one that has lost ``state/`` is damaged, and
    not passed over for an older one.
    """
    path = as_path(path)
    if not path.is_dir():
        return False
    return step_of(path) is not None or any((path / name).exists() for name in (STATE, LEGACY, METADATA, COMMITTED))


def checkpoint_steps(directory: Any) -> list[int]:
    """Returns the steps of the checkpoints in ``directory`` (also a string), whole or damaged, ascending."""
    directory = as_path(directory)
    if not directory.is_dir():
        return []
    steps = {entry: step_of(entry) for entry in directory.iterdir()}
    return sorted(step for entry, step in steps.items() if step is not None and entry.is_dir())


def find_checkpoints(path: Path) -> list[Path]:
    """Returns the checkpoints in ``path``, oldest first, or ``path`` itself if it is one; whole or damaged.

    Raises:
      CheckpointError: there is none.
    """
    found = [path / f"checkpoint_{step}" for step in checkpoint_steps(path)]
    if not found and not is_checkpoint(path):
        raise CheckpointError(
            path,
            expected="a checkpoint_<step> with state/, or a directory that holds some",
            found="none" if path.is_dir() else "nothing",
            fix="give a run's MODEL_DIR, one of its checkpoints, or what fsa import-hf wrote",
        )
    return found or [path]


def begin(path: Any, step: int, more: Mapping[str, Any] | None = None) -> None:
    """Makes the directory of a checkpoint, with an empty ``dataset/`` and its metadata, ``more`` among them."""
    path.mkdir(parents=True)
    (path / DATASET).mkdir()
    custom = {**(more or {}), "step": step, "checksums": FORMAT}
    (path / METADATA).write_text(json.dumps({"init_timestamp_nsecs": time.time_ns(), "custom_metadata": custom}))


def seal(path: Any, step: int) -> None:
    """Writes the lists of checksums and then the marker, and waits until all files are on the disk.

    To be called by one process, when every process has written its arrays and its part of ``dataset/``, and before the
    checkpoint gets its name. It needs no device and no other process: a save in the background can call it from the
    thread that finishes it.

    Raises:
      OSError: a file cannot be read or written.
    """
    dataset = checksums.write(path / DATASET)
    state = checksums.write(path, skip=_NOT_LISTED)
    _write_marker(path / COMMITTED, step, state, dataset)
    sync(path)


def _write_marker(file: Any, step: int | str, state: str, dataset: str) -> None:
    file.write_text(
        f"checkpoint of step {step}, complete\nformat {FORMAT}\n"
        f"{checksums.LIST} {state}\n{DATASET}/{checksums.LIST} {dataset}\n"
    )


def state_digest(path: Any) -> str:
    """Returns what tells the arrays of one checkpoint from any other's, also once ``dataset/`` is deleted.

    Empty for a checkpoint without checksums.
    """
    marker = _MARKER.fullmatch(_text(path / COMMITTED) or "")
    return marker["state"] if marker else ""


def forget_dataset(path: Any) -> None:
    """Deletes ``dataset/`` of a checkpoint that keeps the rest; cut off anywhere, the checkpoint is whole.

    The marker says first that ``dataset/`` is gone on purpose; then it vanishes under its name as a whole.
    """
    marker = _MARKER.fullmatch(_text(path / COMMITTED) or "")
    if marker and marker["dataset"] != "pruned":
        with replacing(path / COMMITTED, durable=True) as partial:
            _write_marker(partial, marker["step"], marker["state"], "pruned")
    doomed = path / _DELETED_DATASET
    _remove(doomed)
    if (path / DATASET).exists():
        (path / DATASET).rename(doomed)
        _remove(doomed)


def _remove(path: Any) -> None:
    if isinstance(path, Path):
        shutil.rmtree(path, ignore_errors=True)
    elif path.exists():
        path.rmtree(missing_ok=True)


@dataclass(frozen=True)
class Verdict:
    """What became of a checkpoint's files.

    Attributes:
      path: of the checkpoint.
      problems: what is damaged, a sentence each.
      unverified: why there is nothing to compare with; empty where there is.
    """

    path: str
    problems: tuple[str, ...] = ()
    unverified: str = ""

    @property
    def is_verified(self) -> bool:
        """Whether every file is as it was written."""
        return not self.problems and not self.unverified

    def __str__(self) -> str:
        if self.problems:
            more = f" and {len(self.problems) - _SHOWN} more" if len(self.problems) > _SHOWN else ""
            return f"damaged: {'; '.join(self.problems[:_SHOWN])}{more}"
        return f"not verified: {self.unverified}" if self.unverified else "whole"

    def require(self, say_unverified: bool = True) -> None:
        """Says on standard error that the checkpoint is not verified, if so.

        Raises:
          DamagedCheckpointError: it is damaged.
        """
        if self.problems:
            raise damaged(self.path, str(self))
        if self.unverified and say_unverified:
            print(f"{self.path}: {self}", file=sys.stderr, flush=True)

    def to_json(self) -> str:
        """Returns the verdict as text, for the other processes."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Verdict:
        """Returns the verdict that :meth:`to_json` wrote."""
        values = json.loads(text)
        return cls(**{**values, "problems": tuple(values["problems"])})


def damaged(path: object, found: str) -> DamagedCheckpointError:
    """Returns the error for a checkpoint at ``path`` whose files cannot be used."""
    return DamagedCheckpointError(
        path,
        expected="a complete checkpoint, its files as they were written",
        found=found,
        fix="copy the whole checkpoint directory again, or take another checkpoint (fsa doctor --checkpoint "
        f"{os.path.dirname(str(path)) or '.'} checks all); a training run goes on from the newest whole one with "
        "--gin.train.on_corrupt_checkpoint=\"'previous'\"",
    )


def verify(path: Any) -> Verdict:
    """Compares the files of the checkpoint at ``path`` with its checksums.

    Checkpoints of upstream T5X, and of fsa_jax up to 528859f, have none.
    """
    marker = _text(path / COMMITTED)
    verdict = _compare(path, marker)
    # A training that goes on beside this deletes dataset/, having said so in the marker.
    return verdict if not verdict.problems or _text(path / COMMITTED) == marker else verify(path)


def _compare(path: Any, marker: str | None) -> Verdict:
    match = _MARKER.fullmatch(marker or "")
    if match is None:
        return _without_marker(path, marker)
    problems = checksums.problems(path, match["state"], skip=_NOT_LISTED)
    if match["dataset"] != "pruned":
        problems += [f"{DATASET}/{problem}" for problem in checksums.problems(path / DATASET, match["dataset"])]
    if not problems and match["step"] != str(metadata(path)["step"]):
        problems = [f"{COMMITTED} has changed"]
    return Verdict(str(path), tuple(problems))


def _without_marker(path: Any, marker: str | None) -> Verdict:
    if not (path / STATE).exists() and not (path / LEGACY).exists():
        return Verdict(str(path), (f"{STATE}/ is missing",))
    try:
        announced = metadata(path).get("checksums")
    except (OSError, ValueError, TypeError, AttributeError, RecursionError):
        return Verdict(str(path), (f"{METADATA} cannot be read",))
    if announced == FORMAT or (announced is None and (path / checksums.LIST).exists()):
        return Verdict(str(path), (f"{COMMITTED} {'is missing' if marker is None else 'has changed'}",))
    if announced is not None:
        return Verdict(str(path), (), f"its checksums are of format {announced}, which this version does not know")
    return Verdict(str(path), (), "it was written without checksums (by T5X, or by an older fsa_jax)")


def metadata(path: Any) -> dict[str, Any]:
    """Returns what this project says in a checkpoint's metadata; nothing where there is none.

    Raises:
      OSError, ValueError, AttributeError: it cannot be read, or is no JSON object.
    """
    if not (path / METADATA).exists():
        return {}
    return json.loads((path / METADATA).read_bytes()).get("custom_metadata") or {}


def _text(file: Any) -> str | None:
    try:
        return file.read_bytes().decode(errors="replace") if file.exists() else None
    except OSError:
        return None
