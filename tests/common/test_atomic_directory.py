"""Atomic outputs: complete or missing after any kill, and other files are never overwritten."""

from __future__ import annotations

import contextlib
import errno
import os
import signal
import sqlite3
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest

from fsa_base.errors import SettingError
from fsa_jax.common import atomic_directory
from fsa_jax.common.atomic_directory import only_files, written_aside

FOREIGN = only_files("value", "parts/*", marks=["value"])


@contextlib.contextmanager
def writing(out: Path, value: str = "new", **more: Any):
    options = {"command": "fsa test", "settings": {"value": value}, "foreign": FOREIGN} | more
    with written_aside(out, **options) as partial:
        yield partial


def write(out: Path, value: str = "new", **more: Any) -> None:
    with writing(out, value, **more) as partial:
        if more.get("directory", True):
            (partial / "parts").mkdir(exist_ok=True)
            (partial / "parts" / "0").write_text(value)
            partial /= "value"
        partial.write_text(value)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def killed_while_writing(out: Path, value: str = "new", more: str = "") -> None:
    """Runs a process that is killed in the middle of its block."""
    program = textwrap.dedent(
        f"""
        import os, signal, sys
        sys.path.insert(0, {str(Path(__file__).parent)!r})
        from pathlib import Path
        from test_atomic_directory import writing
        with writing(Path({str(out)!r}), {value!r}, {more}) as partial:
            (partial / "value" if partial.is_dir() else partial).write_text("half")
            os.kill(os.getpid(), signal.SIGKILL)
        """
    )
    assert subprocess.run([sys.executable, "-c", program], timeout=60).returncode == -signal.SIGKILL


@pytest.mark.parametrize("directory", [True, False])
def test_an_output_appears_only_when_it_is_complete(tmp_path, directory):
    out = tmp_path / "new" / "out"
    with writing(out, directory=directory) as partial:
        assert not out.exists()
        (partial / "value" if directory else partial).write_text("new")
    assert names(out.parent) == ["out"]
    assert (out / "value" if directory else out).read_text() == "new"


@pytest.mark.parametrize("directory", [True, False])
def test_a_finished_output_is_replaced_only_with_overwrite(tmp_path, directory):
    foreign = FOREIGN if directory else lambda out: None
    out = tmp_path / "out"
    write(out, "old", directory=directory, foreign=foreign)
    with pytest.raises(SettingError, match="--overwrite"):
        write(out, directory=directory, foreign=foreign)
    value = out / "value" if directory else out
    assert value.read_text() == "old"
    write(out, overwrite=True, directory=directory, foreign=foreign)
    assert value.read_text() == "new" and names(tmp_path) == ["out"]


def test_the_old_output_stays_when_the_new_one_fails(tmp_path):
    out = tmp_path / "out"
    write(out, "old")
    with pytest.raises(ZeroDivisionError), writing(out, overwrite=True) as partial:
        (partial / "value").write_text(str(1 // 0))
    assert (out / "value").read_text() == "old" and names(tmp_path) == ["out"]


@pytest.mark.parametrize("where", ["out", "out/parts/link", "out/parts"])
def test_a_symbolic_link_in_an_output_is_never_followed(tmp_path, where):
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "value").write_text("mine")
    if where != "out":
        (tmp_path / "out").mkdir()
        (tmp_path / "out" / "value").write_text("old")
        if where != "out/parts":
            (tmp_path / "out" / "parts").mkdir()
    (tmp_path / where).symlink_to(mine)
    for overwrite in (False, True):
        with pytest.raises(SettingError, match="symbolic link" if overwrite else "that does not exist|symbolic link"):
            write(tmp_path / "out", overwrite=overwrite)
    assert (mine / "value").read_text() == "mine" and names(mine) == ["value"]


def test_a_symbolic_link_at_the_temporary_path_is_not_followed(tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "value").write_text("mine")
    (tmp_path / ".out.partial").symlink_to(tmp_path / "mine")
    with pytest.raises(SettingError, match="symbolic link"):
        write(tmp_path / "out", overwrite=True)
    (tmp_path / ".out.partial").unlink()
    (tmp_path / ".out.unfinished").unlink()
    (tmp_path / ".out.unfinished").symlink_to(tmp_path / "mine" / "value")
    with pytest.raises(SettingError, match="can be written"):
        write(tmp_path / "out")
    assert (tmp_path / "mine" / "value").read_text() == "mine"


@pytest.mark.parametrize("there", ["other", "value and other", "file", "link"])
def test_what_the_command_did_not_write_is_never_deleted(tmp_path, there):
    out = tmp_path / "out"
    if there == "file":
        out.write_text("mine")
    elif there == "link":
        out.symlink_to(tmp_path / "nowhere")
    else:
        out.mkdir()
        for name in there.split(" and "):
            (out / name).write_text("mine")
    for overwrite in (False, True):
        with pytest.raises(SettingError, match=r"choose another|use the path it points to"):
            write(out, overwrite=overwrite)
    assert names(tmp_path) == ["out"]
    assert there in ("file", "link") or (out / "other").read_text() == "mine"


@pytest.mark.parametrize("moment", ["between the names", "while the old one goes"])
def test_ctrl_c_during_a_replacement_loses_no_output(tmp_path, monkeypatch, moment):
    out = tmp_path / "out"
    write(out, "old")
    rename = Path.rename

    def interrupted(*arguments: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        if moment == "between the names":
            patch.setattr(
                Path, "rename", lambda one, to: interrupted() if one.name == ".out.partial" else rename(one, to)
            )
        else:
            remove = atomic_directory._remove
            patch.setattr(
                atomic_directory,
                "_remove",
                lambda path: interrupted() if path.name == ".out.replaced" else remove(path),
            )
        with pytest.raises(KeyboardInterrupt):
            write(out, "new", overwrite=True)
    assert (out / "value").read_text() == ("old" if moment == "between the names" else "new")
    for value in ("newer", "newest"):
        write(out, value, overwrite=True)
    assert names(tmp_path) == ["out"] and (out / "value").read_text() == "newest"


def test_a_used_temporary_path_is_an_error_before_the_work_starts(tmp_path):
    write(tmp_path / "out", "old")
    (tmp_path / ".out.replaced").mkdir()
    with (
        pytest.raises(SettingError, match="remove or rename it"),
        writing(tmp_path / "out", "new", overwrite=True),
    ):
        pytest.fail("the work has begun")
    assert names(tmp_path) == [".out.replaced", "out"]


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)),
        RuntimeError(f"OutOfRangeError: Failed to finalize writing: {os.strerror(errno.EFBIG)}"),
        sqlite3.OperationalError("database or disk is full"),
    ],
)
def test_a_full_disk_gives_the_same_error_whatever_a_library_raises(tmp_path, error):
    with pytest.raises(SettingError, match="disk space for the output"), writing(tmp_path / "out"):
        raise error
    assert names(tmp_path) == []


@pytest.mark.parametrize("name", [".DS_Store", "parts/Thumbs.db", ".nfs0001"])
def test_files_added_by_an_operating_system_do_not_prevent_a_replacement(tmp_path, name):
    write(tmp_path / "out")
    (tmp_path / "out" / name).write_bytes(b"of the system")
    write(tmp_path / "out", overwrite=True)
    assert names(tmp_path / "out") == ["parts", "value"]


def test_an_empty_folder_can_be_an_output(tmp_path):
    (tmp_path / "out").mkdir()
    write(tmp_path / "out")
    assert names(tmp_path) == ["out"] and names(tmp_path / "out") == ["parts", "value"]


def test_the_current_folder_and_a_parent_that_is_a_file(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("mine")
    with pytest.raises(SettingError, match="can be written"):
        write(tmp_path / "file" / "out")
    monkeypatch.chdir(tmp_path)
    for out in (Path("."), Path("/"), Path("a" * 300)):
        with pytest.raises(SettingError):
            write(out)
    assert names(tmp_path) == ["file"]


def test_an_output_that_is_or_contains_its_input_is_refused(tmp_path):
    out = tmp_path / "out"
    write(out)
    (tmp_path / "link").symlink_to(out / "value")
    for source in (out, out / "value", tmp_path / "link"):
        with pytest.raises(SettingError, match="input"):
            write(out, overwrite=True, inputs=[source])
    file = tmp_path / "file"
    file.write_text("mine")
    os.link(file, tmp_path / "same")
    with pytest.raises(SettingError, match="the input itself"):
        write(tmp_path / "same", overwrite=True, inputs=[file], directory=False, foreign=lambda out: None)
    write(out, "other", overwrite=True, inputs=[file])
    assert (out / "value").read_text() == "other" and file.read_text() == "mine"


def test_an_unfinished_output_is_replaced_only_by_the_same_command(tmp_path):
    out = tmp_path / "out"
    killed_while_writing(out)
    assert names(tmp_path) == [".out.partial", ".out.unfinished"]
    with pytest.raises(SettingError, match="value 'new', now 'other'"):
        write(out, "other")
    with pytest.raises(SettingError, match="of fsa test"):
        write(out, command="fsa other")
    write(out)
    assert (out / "value").read_text() == "new" and names(tmp_path) == ["out"]
    killed_while_writing(out, more="overwrite=True")
    assert (out / "value").read_text() == "new"
    write(out, "other", overwrite=True)
    assert (out / "value").read_text() == "other" and names(tmp_path) == ["out"]


def test_an_unfinished_output_is_resumed(tmp_path):
    out = tmp_path / "out"
    killed_while_writing(out, more="resume=True")
    with pytest.raises(KeyboardInterrupt), writing(out, resume=True) as partial:
        assert (partial / "value").read_text() == "half"
        raise KeyboardInterrupt
    with writing(out, resume=True) as partial:
        assert (partial / "value").read_text() == "half"
        (partial / "value").write_text("whole")
    assert names(tmp_path) == ["out"] and (out / "value").read_text() == "whole"


def test_a_second_process_is_refused_whatever_its_flags(tmp_path):
    out = tmp_path / "out"
    with writing(out) as partial:
        (partial / "value").write_text("first")
        for overwrite in (False, True):
            with pytest.raises(SettingError, match="no other process"):
                write(out, "second", overwrite=overwrite)
    assert (out / "value").read_text() == "first" and names(tmp_path) == ["out"]


def test_partial_folders_of_dead_processes_are_removed_and_of_living_ones_kept(tmp_path):
    """Partial folders of version 528859f have no lock, only a process id in their name."""
    with subprocess.Popen([sys.executable, "-c", ""]) as dead:
        dead.wait()
    mine = tmp_path / "mine"
    mine.mkdir()
    for name in (
        f".out.partial-{dead.pid}",
        f".out.partial-{os.getpid()}",
        ".out.partial-mine",
        f".x.partial-{dead.pid}",
    ):
        (tmp_path / name / "parts").mkdir(parents=True)
    (tmp_path / f".out.partial-{dead.pid}" / "link").symlink_to(mine)
    write(tmp_path / "out")
    assert names(tmp_path) == sorted(
        ["mine", "out", f".out.partial-{os.getpid()}", ".out.partial-mine", f".x.partial-{dead.pid}"]
    )


def test_a_kill_between_the_two_renames_loses_neither_output(tmp_path):
    out = tmp_path / "out"
    write(out, "old")
    killed_while_writing(out, more="overwrite=True")
    out.rename(tmp_path / ".out.replaced")
    with pytest.raises(SettingError, match="--overwrite"):
        write(out)  # refused once the old one is back
    assert (out / "value").read_text() == "old"
    write(out, overwrite=True)
    assert (out / "value").read_text() == "new" and names(tmp_path) == ["out"]


def test_a_full_disk_is_one_clear_error(tmp_path):
    with pytest.raises(SettingError, match="disk space for the output"), writing(tmp_path / "out"):
        raise OSError(errno.ENOSPC, "No space left on device")
    assert names(tmp_path) == []


@pytest.mark.parametrize("directory", [True, False])
def test_content_is_synced_before_the_rename_and_the_name_after_it(tmp_path, monkeypatch, directory):
    out = tmp_path / "out"
    synced: list[tuple[str, bool]] = []

    def fsync(descriptor: int) -> None:
        synced.append((os.path.basename(os.readlink(f"/proc/self/fd/{descriptor}")), out.exists()))

    monkeypatch.setattr("os.fsync", fsync)
    with writing(out, directory=directory) as partial:
        (partial / "value" if directory else partial).write_text("new")
    content = ["value", ".out.partial"] if directory else [".out.partial"]
    assert sorted(synced[:-1]) == sorted((name, False) for name in content)
    assert synced[-1] == (tmp_path.name, True)


@pytest.mark.parametrize("number", [errno.EAGAIN, errno.EACCES])
def test_a_lock_that_another_process_holds_is_refused_whatever_the_error_number(number, tmp_path, monkeypatch):
    """Some file systems report a held lock as EACCES; this does not mean that they have no locks."""

    def held(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr("fcntl.flock", held)
    with pytest.raises(SettingError, match="no other process writes"):
        write(tmp_path / "out")


def test_outputs_are_written_without_locks_and_directory_sync(tmp_path, monkeypatch):
    """Some network file systems are like this."""

    def no_lock(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    def no_sync(_: int) -> None:
        raise OSError(errno.EINVAL, "Invalid argument")

    monkeypatch.setattr("fcntl.flock", no_lock)
    monkeypatch.setattr("os.fsync", no_sync)
    out = tmp_path / "out"
    write(out)
    write(out, "newer", overwrite=True)
    assert (out / "value").read_text() == "newer" and names(tmp_path) == ["out"]
    killed_while_writing(tmp_path / "other", more="resume=True")
    # It is unknown whether its process is still running.
    with pytest.raises(SettingError, match="perhaps still being written"):
        write(tmp_path / "other", resume=True)
    with writing(tmp_path / "other", resume=True, overwrite=True) as partial:
        assert (partial / "value").read_text() == "half"
    assert names(tmp_path) == ["other", "out"]


def test_a_converted_output_is_complete_or_missing_and_what_it_is_made_from_is_kept_until_then(tmp_path):
    """A kill between the last two steps leaves the finished output and what it was made from."""
    out = tmp_path / "out"
    more: dict[str, Any] = {"directory": False, "resume": True, "foreign": lambda path: None}

    def failing(made_from: Path, converted: Path) -> None:
        converted.write_text("half")
        raise OSError("no reason")

    def upper(made_from: Path, converted: Path) -> None:
        converted.write_text(made_from.read_text().upper())

    with pytest.raises(OSError, match="no reason"):
        write(out, convert=failing, **more)
    assert names(tmp_path) == [".out.partial", ".out.unfinished"]
    unfinished = {name: (tmp_path / name).read_bytes() for name in names(tmp_path)}
    write(out, convert=upper, **more)
    assert names(tmp_path) == ["out"] and out.read_text() == "NEW"
    for name, content in unfinished.items():
        (tmp_path / name).write_bytes(content)
    with pytest.raises(SettingError, match="--overwrite"):
        write(out, convert=upper, **more)
    write(out, convert=upper, overwrite=True, **more)
    assert names(tmp_path) == ["out"] and out.read_text() == "NEW"
