"""Atomic outputs: a command writes under a temporary name, and the output gets its final name when it is finished.

All commands follow the same rule. Without ``overwrite`` they refuse a finished output, and an unfinished output of
other inputs or settings. An unfinished output of the same command is resumed or replaced. An output ``out`` is written
to ``.out.partial`` in the same folder. The file ``.out.unfinished`` names the command and is locked by the writing
process as long as it lives. A lock ends with its process on any host, unlike a process id, which may be used again.
Symbolic links are not followed, and only files that the command wrote are deleted.
"""

from __future__ import annotations

import errno
import fnmatch
import json
import os
import re
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from fsa_base import checksums, disk
from fsa_base.disk import disk_error, sync
from fsa_base.errors import FsaError, SettingError

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_SQLITE_FULL = "database or disk is full"
_EXAMPLES = 3


def only_files(*patterns: str, marks: Sequence[str]) -> Callable[[Path], str | None]:
    """Recognises a directory that a command wrote: it has only files with names that the command uses.

    Files that operating systems add to any folder (``.DS_Store``) are ignored.

    Args:
      patterns: patterns (see ``fnmatch``) of file names relative to the directory (``kept/part-*.parquet``).
      marks: patterns of which at least one must match a file.

    Returns:
      A function for :func:`written_aside`: it describes what a path has that the command does not write, or returns
      None if there is nothing.
    """

    def foreign(out: Path) -> str | None:
        if not out.is_dir():
            return "a file"
        names = []
        for folder, folders, files in os.walk(out):
            for name in (*folders, *files):
                path = Path(folder, name)
                if path.is_symlink():
                    return f"a symbolic link, {path}"
                if name in files and not checksums.is_of_the_system(name):
                    names.append(path.relative_to(out).as_posix())
        others = [name for name in sorted(names) if not any(fnmatch.fnmatchcase(name, one) for one in patterns)]
        if others:
            return f"other files ({', '.join(others[:_EXAMPLES])}{' …' if len(others) > _EXAMPLES else ''})"
        if not any(fnmatch.fnmatchcase(name, mark) for name in names for mark in marks):
            return "a folder that this command did not write"
        return None

    return foreign


@contextmanager
def written_aside(
    out: Path,
    *,
    command: str,
    settings: Mapping[str, Any],
    foreign: Callable[[Path], str | None],
    inputs: Sequence[Path] = (),
    overwrite: bool = False,
    directory: bool = True,
    resume: bool = False,
    convert: Callable[[Path, Path], object] | None = None,
) -> Iterator[Path]:
    """Yields a temporary path to write to, which is renamed to ``out`` when the block ends without an error.

    When the block raises an error, the temporary path is deleted (but see ``resume``), and ``out`` is unchanged.

    Args:
      out: path that does not exist, an empty directory, or with ``overwrite`` an earlier output of the command.
      command: command as the user types it, such as ``fsa check``.
      settings: all settings that determine the output, including inputs, as JSON values. They distinguish unfinished
        outputs of different runs.
      foreign: function that describes what an existing path has that this command does not write (such a path is never
        deleted); it returns None if there is nothing.
      inputs: files and directories that are read; none of them may be ``out`` or inside it.
      overwrite: whether to replace a finished output, or an unfinished one of other inputs or settings.
      directory: whether to yield an empty directory; otherwise a path without a file, which the block creates.
      resume: whether an unfinished output of the same settings is kept after an error and given to the next run.
      convert: function that is called at the end of the block with the temporary path and another one, to which it
        writes the output in its final format; then the first one is deleted. Only for files.

    Raises:
      SettingError: the rule above refuses ``out``, another process is writing it, or it cannot be written.
    """
    out = _plain(out)
    places = _Places(out)
    with _full_disk_refused(out):
        try:
            out.parent.mkdir(parents=True, exist_ok=True)
            descriptor = places.lock()
        except (OSError, ValueError) as error:
            raise SettingError(
                out, expected="a place that can be written", found=str(error), fix="choose another output"
            ) from error
        begun = finished = False
        try:
            places.recover()
            _refuse(out, inputs, foreign, overwrite, directory)
            places.settle(command, json.loads(json.dumps(settings)), overwrite, resume)
            if directory:
                places.partial.mkdir(exist_ok=resume)
            begun = True
            yield places.partial
            made = places.partial
            if convert is not None:
                made = places.converted
                _remove(made)
                convert(places.partial, made)
            sync(made)
            _refuse(out, inputs, foreign, overwrite, directory)  # checked again: it may have been created meanwhile
            places.commit(made, directory)
            finished = True
            sync(out.parent, recursive=False)
        finally:
            if begun:
                _remove(places.converted)
                if finished or not resume:
                    _remove(places.partial)
            if not places.has_unfinished():
                places.note.unlink(missing_ok=True)
            os.close(descriptor)


def require_place(
    out: Path,
    *,
    foreign: Callable[[Path], str | None],
    inputs: Sequence[Path] = (),
    overwrite: bool = False,
    directory: bool = True,
) -> None:
    """Checks before a long work whether :func:`written_aside` will refuse what is at ``out``. Nothing is written.

    Raises:
      SettingError: it will refuse it.
    """
    _refuse(_plain(out), inputs, foreign, overwrite, directory)


def unfinished_settings(out: Path, command: str) -> dict[str, Any] | None:
    """Returns the settings of the unfinished output of ``command`` at ``out``; None if there is none."""
    places = _Places(_plain(out))
    noted = places.read_note() if os.path.lexists(places.partial) else None
    settings = noted.get("settings") if noted and noted.get("command") == command else None
    return settings if isinstance(settings, dict) else None


@contextmanager
def _full_disk_refused(out: Path) -> Iterator[None]:
    """Turns every error that a full disk causes in the block into a SettingError, whatever a library raises."""
    try:
        yield
    except FsaError:
        raise
    except Exception as error:
        full = disk_error(error, _FULL)
        if full is None and _SQLITE_FULL not in str(error):
            raise
        raise SettingError(
            out,
            expected="disk space for the output",
            found=str(full or error),
            fix="free disk space, or choose another output",
        ) from error


def _plain(out: Path) -> Path:
    """``out`` with its symbolic links resolved, except the last part of the path."""
    if out.name in ("", ".."):
        return Path(os.path.realpath(out))
    return Path(os.path.realpath(out.parent)) / out.name


def _refuse(
    out: Path, inputs: Sequence[Path], foreign: Callable[[Path], str | None], overwrite: bool, directory: bool
) -> None:
    for path in inputs:
        path = Path(os.path.realpath(path))
        if not path.exists():  # such as a name on the Hugging Face Hub
            continue
        if out in path.parents or (out.exists() and path.samefile(out)):
            where = f"a folder that contains {path}" if out in path.parents else "the input itself"
            raise SettingError(out, expected="an output outside the input", found=where, fix="choose another output")
    if out.is_symlink():
        raise SettingError(
            out, expected="no symbolic link", found=f"one to {os.readlink(out)}", fix="use the path it points to"
        )
    if out.is_dir() and directory:
        if os.path.ismount(out):
            raise SettingError(
                out, expected="no mount point", found="one", fix=f"choose a folder in it, such as {out / 'out'}"
            )
        if not any(out.iterdir()):
            return
    if not os.path.lexists(out):
        return
    what = "a folder" if out.is_dir() else "a file"
    found = foreign(out)
    if found is not None:
        raise SettingError(
            out,
            expected="a path that does not exist" + (" or what this command wrote" if overwrite else ""),
            found=found if overwrite else what,
            fix="choose another output",
        )
    if not overwrite:
        raise SettingError(
            out,
            expected="a path that does not exist",
            found=f"{what}, an earlier output of this command",
            fix="choose another output, or replace it: --overwrite",
        )


class _Places:
    """The temporary paths of an output, and the operations on them."""

    def __init__(self, out: Path):
        self._out = out
        self.partial = out.parent / f".{out.name}.partial"
        self.converted = out.parent / f".{out.name}.converted"
        self.note = out.parent / f".{out.name}.unfinished"
        self._replaced = out.parent / f".{out.name}.replaced"
        self._locked = True

    def lock(self) -> int:
        """Locks the file ``note`` and returns its descriptor, which holds the lock."""
        while True:
            descriptor = os.open(self.note, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o666)
            try:
                disk.lock(descriptor, 0)
            except BlockingIOError:
                os.close(descriptor)
                raise SettingError(
                    self._out,
                    expected="an output that no other process writes",
                    found="another process that is writing it",
                    fix="wait for that process, stop it, or choose another output",
                ) from None
            except OSError:  # without locks on this file system, dead and living processes cannot be distinguished
                self._locked = False
            # The process that held the lock before may have deleted the file; then the lock is useless, so try again.
            with suppress(FileNotFoundError):
                if os.path.samestat(os.fstat(descriptor), os.stat(self.note, follow_symlinks=False)):
                    return descriptor
            os.close(descriptor)

    def has_unfinished(self) -> bool:
        """Whether there is an unfinished or replaced output that the note describes."""
        return os.path.lexists(self.partial) or (os.path.lexists(self._replaced) and self.read_note() is not None)

    def recover(self) -> None:
        """Completes an interrupted replacement: restores the old output if there is no new one, else deletes it."""
        if self.read_note() is not None and os.path.lexists(self._replaced):
            if os.path.lexists(self._out):
                _remove(self._replaced)
            else:
                self._replaced.rename(self._out)
        if os.path.lexists(self._replaced):
            raise SettingError(
                self._replaced,
                expected="no such path (it is used while an output is replaced)",
                found="something that cannot be removed, or that this command did not write",
                fix="remove or rename it",
            )

    def settle(self, command: str, settings: dict[str, Any], overwrite: bool, resume: bool) -> None:
        """Handles the unfinished output of a dead process, and records the settings of this run."""
        noted = self.read_note()
        new = {"command": command, "settings": settings}
        if os.path.lexists(self.partial):
            if self.partial.is_symlink():
                raise SettingError(self.partial, expected="no symbolic link", found="one", fix="remove it")
            if (noted != new or not self._locked) and not overwrite:
                raise SettingError(
                    self._out,
                    expected="no unfinished output of other inputs or settings",
                    found=f"one ({_difference(noted, new)})",
                    fix="run that command again to finish it, choose another output, or discard it: --overwrite",
                )
            if noted != new or not resume:
                _remove(self.partial)
        self._remove_partials_of_earlier_versions()
        self.note.write_text(json.dumps(new), encoding="utf-8")

    def commit(self, made: Path, directory: bool) -> None:
        """Gives the output its final name; an earlier output is renamed first and deleted afterwards."""
        if not directory or not self._out.is_dir():
            os.replace(made, self._out)
            return
        try:
            self._out.rename(self._replaced)
            made.rename(self._out)
        except BaseException:  # also KeyboardInterrupt
            if not os.path.lexists(self._out):
                self._replaced.rename(self._out)
            raise
        _remove(self._replaced)

    def read_note(self) -> dict[str, Any] | None:
        try:
            found = json.loads(self.note.read_text("utf-8"))
        except (OSError, ValueError):
            return None
        return found if isinstance(found, dict) else None

    def _remove_partials_of_earlier_versions(self) -> None:
        """Deletes ``.out.partial-PID``, which earlier versions wrote without a lock."""
        pattern = re.compile(re.escape(f".{self._out.name}.partial-") + "([0-9]+)")
        for entry in os.scandir(self._out.parent):
            match = pattern.fullmatch(entry.name)
            if match and entry.is_dir(follow_symlinks=False) and not _is_alive(int(match[1])):
                shutil.rmtree(entry.path, ignore_errors=True)


def _is_alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except OSError:  # the process belongs to another user
        return True
    return True


def _difference(noted: dict[str, Any] | None, new: dict[str, Any]) -> str:
    if noted is None:
        return "of an unknown run"
    if noted.get("command") != new["command"]:
        return f"of {noted.get('command')}"
    old, now = noted.get("settings") or {}, new["settings"]
    changed = [name for name in sorted({*old, *now}) if old.get(name) != now.get(name)]
    return (
        ", ".join(f"{name} {old.get(name)!r}, now {now.get(name)!r}" for name in changed)
        or "perhaps still being written"
    )


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
