"""The files of a checkpoint: its layout, and the check that its files are unchanged. Needs no JAX.

::

    checkpoint_<step>/state/                Orbax's arrays
                      dataset/              data position, and dataset/checksums.sha256 of its files
                      _CHECKPOINT_METADATA  JSON; says that this checkpoint has checksums
                      checksums.sha256      checksums of state/ and _CHECKPOINT_METADATA
                      commit_success.txt    marker: the digests of both lists of checksums

:func:`begin` writes the metadata, :func:`seal` writes the lists and the marker, and :func:`verify` compares. The
metadata says that there are lists, the marker has the digests of the lists, and a list has the checksum of the
metadata. So no file can change or disappear unnoticed.
``dataset/`` has a separate list because it may be deleted later (:func:`forget_dataset`).

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
"""Name of the file in T5X's checkpoints before Orbax."""
FORMAT = 1
"""Version of the format of the lists and the marker."""

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
    """Returns the training step in a checkpoint's name; None if the name has none."""
    match = _STEP.fullmatch(path.name)
    return int(match[1]) if match else None


def is_checkpoint(path: Any) -> bool:
    """Returns whether ``path`` (also a string) is a checkpoint, complete or damaged.

    The name ``checkpoint_<step>`` or any of its files makes a directory a checkpoint. So a checkpoint without
    ``state/`` counts as damaged, and is not silently skipped in favour of an older one.
    """
    path = as_path(path)
    if not path.is_dir():
        return False
    return step_of(path) is not None or any((path / name).exists() for name in (STATE, LEGACY, METADATA, COMMITTED))


def checkpoint_steps(directory: Any) -> list[int]:
    """Returns the steps of the checkpoints in ``directory`` (also a string), complete or damaged, ascending."""
    directory = as_path(directory)
    if not directory.is_dir():
        return []
    steps = {entry: step_of(entry) for entry in directory.iterdir()}
    return sorted(step for entry, step in steps.items() if step is not None and entry.is_dir())


def find_checkpoints(path: Path) -> list[Path]:
    """Returns the checkpoints in ``path``, oldest first, or ``path`` itself if it is one; complete or damaged.

    Raises:
      CheckpointError: there is no checkpoint.
    """
    found = [path / f"checkpoint_{step}" for step in checkpoint_steps(path)]
    if not found and not is_checkpoint(path):
        raise CheckpointError(
            path,
            expected="a checkpoint_<step> with state/, or a directory of checkpoints",
            found="none" if path.is_dir() else "nothing",
            fix="give a run's MODEL_DIR, one of its checkpoints, or an output directory of fsa import-hf",
        )
    return found or [path]


def begin(path: Any, step: int, more: Mapping[str, Any] | None = None) -> None:
    """Creates the directory of a checkpoint, with an empty ``dataset/`` and its metadata, which include ``more``."""
    path.mkdir(parents=True)
    (path / DATASET).mkdir()
    custom = {**(more or {}), "step": step, "checksums": FORMAT}
    (path / METADATA).write_text(json.dumps({"init_timestamp_nsecs": time.time_ns(), "custom_metadata": custom}))


def seal(path: Any, step: int) -> None:
    """Writes the lists of checksums and then the marker, and waits until all files are on the disk.

    One process calls this, after all processes have written their arrays and their part of ``dataset/``, and before the
    checkpoint gets its final name. It needs no device and no other process, so a background save can call it from its
    thread.

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
    """Returns a digest that identifies the arrays of a checkpoint, even after ``dataset/`` is deleted.

    The digest is empty for a checkpoint without checksums.
    """
    marker = _MARKER.fullmatch(_text(path / COMMITTED) or "")
    return marker["state"] if marker else ""


def forget_dataset(path: Any) -> None:
    """Deletes ``dataset/`` of a checkpoint. If this is interrupted at any point, the checkpoint is still valid.

    First the marker records that ``dataset/`` was deleted on purpose; then ``dataset/`` is renamed and deleted.
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
    """Result of the check of a checkpoint's files.

    Attributes:
      path: path of the checkpoint.
      problems: description of each damaged or missing file.
      unverified: the reason why the files cannot be compared with checksums; empty if they can.
    """

    path: str
    problems: tuple[str, ...] = ()
    unverified: str = ""

    @property
    def is_verified(self) -> bool:
        """Whether every file is unchanged since it was written."""
        return not self.problems and not self.unverified

    def __str__(self) -> str:
        if self.problems:
            more = f" and {len(self.problems) - _SHOWN} more" if len(self.problems) > _SHOWN else ""
            return f"damaged: {'; '.join(self.problems[:_SHOWN])}{more}"
        return f"not verified: {self.unverified}" if self.unverified else "whole"

    def require(self, say_unverified: bool = True) -> None:
        """Prints a warning on standard error if the checkpoint cannot be verified.

        Raises:
          DamagedCheckpointError: the checkpoint is damaged.
        """
        if self.problems:
            raise damaged(self.path, str(self))
        if self.unverified and say_unverified:
            print(f"{self.path}: {self}", file=sys.stderr, flush=True)

    def to_json(self) -> str:
        """Returns the verdict as text, to send it to other processes."""
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
        expected="a complete checkpoint with unchanged files",
        found=found,
        fix="copy the whole checkpoint directory again, or take another checkpoint (fsa doctor --checkpoint "
        f"{os.path.dirname(str(path)) or '.'} checks all); a training run continues from the newest undamaged one with "
        "--gin.train.on_corrupt_checkpoint=\"'previous'\"",
    )


def verify(path: Any) -> Verdict:
    """Compares the files of the checkpoint at ``path`` with its checksums.

    Checkpoints of upstream T5X, and of fsa_jax up to 528859f, have no checksums.
    """
    marker = _text(path / COMMITTED)
    verdict = _compare(path, marker)
    # A training that runs at the same time may delete dataset/, and records this in the marker before.
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
    """Returns this project's part of a checkpoint's metadata; empty if there is none.

    Raises:
      OSError, ValueError, AttributeError: the file cannot be read, or is not a JSON object.
    """
    if not (path / METADATA).exists():
        return {}
    return json.loads((path / METADATA).read_bytes()).get("custom_metadata") or {}


def _text(file: Any) -> str | None:
    try:
        return file.read_bytes().decode(errors="replace") if file.exists() else None
    except OSError:
        return None
