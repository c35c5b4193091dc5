"""Which directories are checkpoints, and whether changes of their files are noticed."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from fsa_base import checkpoint_files, checksums
from fsa_base.checkpoint_files import is_checkpoint, verify
from fsa_base.errors import DamagedCheckpointError


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    """A sealed checkpoint; its files have the right names and arbitrary content."""
    path = tmp_path / "run" / "checkpoint_4"
    checkpoint_files.begin(path, 4)
    for name in ("state/manifest.ocdbt", "state/d/a1", "dataset/train_ds-000-of-001.json"):
        (path / name).parent.mkdir(exist_ok=True, parents=True)
        (path / name).write_bytes(name.encode() * 20)
    checkpoint_files.seal(path, 4)
    return path


def _files(path: Path) -> list[Path]:
    return sorted(entry for entry in path.rglob("*") if entry.is_file())


def test_a_fault_in_any_file_is_found_and_the_file_is_named(checkpoint: Path, tmp_path: Path) -> None:
    """Deletes, empties, truncates, changes and extends every file, including the lists and the marker."""
    assert str(verify(checkpoint)) == "whole"
    faults = {
        "delete": lambda file: file.unlink(),
        "empty": lambda file: file.write_bytes(b""),
        "truncate": lambda file: file.write_bytes(file.read_bytes()[:-1]),
        "first line": lambda file: file.write_bytes(file.read_bytes().split(b"\n")[0] + b"\n"),
        "change": lambda file: file.write_bytes(bytes([file.read_bytes()[0] ^ 1]) + file.read_bytes()[1:]),
        "prolong": lambda file: file.write_bytes(file.read_bytes() + b"\n"),
    }
    assert len(_files(checkpoint)) == 7
    for name in (str(file.relative_to(checkpoint)) for file in _files(checkpoint)):
        for kind, fault in faults.items():
            copy = tmp_path / kind / name.replace("/", "_") / "checkpoint_4"
            shutil.copytree(checkpoint, copy)
            fault(copy / name)
            verdict = verify(copy)
            same = (copy / name).is_file() and (copy / name).read_bytes() == (checkpoint / name).read_bytes()
            assert same or any(name in problem for problem in verdict.problems), (kind, name, verdict)
            assert same or not verdict.is_verified
    for folder in ("state", "dataset", "state/d"):
        copy = tmp_path / "folder" / folder.replace("/", "_") / "checkpoint_4"
        shutil.copytree(checkpoint, copy)
        shutil.rmtree(copy / folder)
        with pytest.raises(DamagedCheckpointError, match=folder):
            verify(copy).require()


def test_a_missing_list_with_a_missing_marker_is_damage(checkpoint: Path) -> None:
    for name in (checksums.LIST, checkpoint_files.COMMITTED):
        (checkpoint / name).unlink()
    assert str(verify(checkpoint)) == "damaged: commit_success.txt is missing"


def test_the_steps_in_marker_and_metadata_must_agree(checkpoint: Path) -> None:
    marker = checkpoint / checkpoint_files.COMMITTED
    marker.write_text(marker.read_text().replace("step 4", "step 5"))
    assert str(verify(checkpoint)) == "damaged: commit_success.txt has changed"


def test_checkpoints_without_checksums_are_not_verified(checkpoint: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Checkpoints of upstream T5X and of version 528859f are read, with a message."""
    for file in (checkpoint / checksums.LIST, checkpoint / "dataset" / checksums.LIST):
        file.unlink()
    (checkpoint / checkpoint_files.METADATA).write_text('{"init_timestamp_nsecs": 1, "custom_metadata": {"step": 4}}')
    (checkpoint / checkpoint_files.COMMITTED).write_text("checkpoint of step 4, complete\n")
    verify(checkpoint).require()
    assert capfd.readouterr().err.splitlines() == [
        f"{checkpoint}: not verified: it was written without checksums (by T5X, or by an older fsa_jax)"
    ]
    (checkpoint / checkpoint_files.METADATA).unlink()
    assert verify(checkpoint).unverified
    (checkpoint / checkpoint_files.METADATA).write_text("{")
    assert str(verify(checkpoint)) == "damaged: _CHECKPOINT_METADATA cannot be read"


def test_a_killed_deletion_of_dataset_leaves_a_valid_checkpoint(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A missing dataset/ is damage unless the marker records its deletion."""

    class Killed(Exception):
        pass

    steps = 0

    def counted(function):
        def step(*arguments, **named):
            nonlocal steps
            steps -= 1
            if steps < 0:
                raise Killed
            return function(*arguments, **named)

        return step

    for owner, name in ((Path, "replace"), (Path, "rename"), (shutil, "rmtree"), (Path, "write_text")):
        monkeypatch.setattr(owner, name, counted(getattr(owner, name)))
    for moment in range(10):
        copy = tmp_path / str(moment) / "checkpoint_4"
        shutil.copytree(checkpoint, copy)
        steps = moment
        try:
            checkpoint_files.forget_dataset(copy)
        except Killed:
            assert str(verify(copy)) == "whole", moment
            steps = 10
            checkpoint_files.forget_dataset(copy)
        assert str(verify(copy)) == "whole"
        assert {entry.name for entry in copy.iterdir()} == {
            "_CHECKPOINT_METADATA",
            "checksums.sha256",
            "commit_success.txt",
            "state",
        }
    assert steps > 0, "the last moment came after the end"


def test_checkpoints_are_written_without_directory_sync(tmp_path: Path, monkeypatch) -> None:
    """Some network file systems do not support it. A failing disk is still an error."""
    answer = errno.EINVAL

    def fsync(descriptor: int) -> None:
        if os.path.isdir(f"/proc/self/fd/{descriptor}"):
            raise OSError(answer, os.strerror(answer))

    monkeypatch.setattr(os, "fsync", fsync)
    path = tmp_path / "checkpoint_4"
    checkpoint_files.begin(path, 4)
    (path / "state").mkdir()
    checkpoint_files.seal(path, 4)
    assert str(verify(path)) == "whole"
    answer = errno.EIO
    with pytest.raises(OSError, match="Input/output error"):
        checkpoint_files.seal(path, 4)


def test_a_checkpoint_without_state_counts_as_damaged(checkpoint: Path) -> None:
    shutil.rmtree(checkpoint / "state")
    (checkpoint.parent / "checkpoint_2").mkdir()
    (checkpoint.parent / "checkpoint_6.corrupt").mkdir()
    (checkpoint.parent / "checkpoint_7").write_text("a file")
    assert checkpoint_files.checkpoint_steps(checkpoint.parent) == [2, 4]
    assert str(verify(checkpoint.parent / "checkpoint_2")) == "damaged: state/ is missing"
    assert is_checkpoint(checkpoint) and not is_checkpoint(checkpoint.parent)


def _doctor(path: Path) -> tuple[int, str, str]:
    code = (
        "import sys; sys.modules.update(dict.fromkeys(('jax', 'tensorflow', 'orbax', 'etils')))\n"
        "from fsa_jax.cli.main import main; sys.exit(main(['doctor', '--checkpoint', sys.argv[1]]))"
    )
    run = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=False)
    return run.returncode, run.stdout, run.stderr


def test_doctor_checks_one_checkpoint_or_all_without_jax(checkpoint: Path) -> None:
    """The status of ``fsa doctor --checkpoint PATH`` is not 0 if one is damaged."""
    assert _doctor(checkpoint) == (0, f"{checkpoint}: whole\n", "")
    other = checkpoint.parent / "checkpoint_2"
    shutil.copytree(checkpoint, other)
    (other / "state/d/a1").write_bytes(b"0")
    (other / "dataset/train_ds-000-of-001.json").unlink()
    status, printed, _ = _doctor(checkpoint.parent)
    assert status == 1
    assert printed.splitlines() == [
        f"{other}: damaged: state/d/a1 has changed; dataset/train_ds-000-of-001.json is missing",
        f"{checkpoint}: whole",
    ]
    status, _, errors = _doctor(checkpoint / "state" / "d")
    assert status == 2 and "expected a checkpoint_<step> with state/, or a directory of checkpoints" in errors
