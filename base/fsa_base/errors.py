"""The one family of errors that a user of fsa_jax is meant to read.

Every error says where (a file and line, or a setting), what was expected, what was found, and what
fixes it. Command lines print it without a traceback and exit with 2; everything else that escapes is
a defect of ours and keeps its traceback.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable

_SHOWN = 12


class FsaError(Exception):
    """Something that the user can fix.

    Args:
      where: file (with ``:line`` where there is one), command-line option or setting.
      expected: what should have been there.
      found: what was there instead.
      fix: the command or the change that fixes it.
    """

    def __init__(self, where: object, *, expected: str, found: str, fix: str) -> None:
        self.where = str(where)
        self.expected = expected
        self.found = found
        self.fix = fix
        super().__init__(self.where, expected, found, fix)

    def __str__(self) -> str:
        return f"{self.where}: expected {self.expected}, found {self.found}\n  to fix it: {self.fix}"

    def __reduce__(self):
        # Exceptions cross process borders in Beam and multiprocessing; keyword-only arguments do not by default.
        return (_rebuild, (type(self), self.where, self.expected, self.found, self.fix))


def _rebuild(cls: type[FsaError], where: str, expected: str, found: str, fix: str) -> FsaError:
    return cls(where, expected=expected, found=found, fix=fix)


class DataError(FsaError):
    """A file of reviews, labels or teacher text that does not hold what it should."""


class MissingDataError(DataError):
    """A file or folder that is not there."""


class VocabularyError(FsaError):
    """A vocabulary that is missing or is not the one that was asked for."""


class SettingError(FsaError):
    """A command-line option, gin binding or environment variable with an unusable value."""


def require_choice(
    setting: str, value: object, choices: Iterable[str], fix: str = "--gin.{setting}=\"'{choice}'\""
) -> None:
    """Checks a setting that takes one of a few words.

    Args:
      setting: its name.
      value: what it was given.
      choices: the words.
      fix: the command that sets it, with ``{setting}`` and ``{choice}``, for which the nearest word stands.

    Raises:
      SettingError: ``value`` is none of them.
    """
    words = list(choices)
    if value in words:
        return
    by_lower = {word.lower(): word for word in words}
    near = [by_lower[word] for word in difflib.get_close_matches(str(value).lower(), by_lower, 1)]
    listed = (near + [word for word in words if word not in near])[:_SHOWN] if len(words) > _SHOWN else words
    more = f" or one of {len(words) - _SHOWN} more" if len(words) > _SHOWN else ""
    raise SettingError(
        setting,
        expected=" or ".join(map(repr, listed)) + more,
        found=repr(value) + (f", which is near {near[0]!r}" if near else ""),
        fix=fix.format(setting=setting, choice=(near or words)[0]),
    )


def require_float(setting: str, dtype: object) -> None:
    """Checks a dtype of parameters or activations that is given as a word; dtypes themselves pass, and None.

    Raises:
      SettingError: no such dtype.
    """
    if isinstance(dtype, str):
        require_choice(setting, dtype, ("float32", "bfloat16", "float16", "float64"))


class CheckpointError(FsaError):
    """A checkpoint that cannot be written, read or matched to the model."""


class DamagedCheckpointError(CheckpointError):
    """A checkpoint whose files are not as they were written: no setting helps, another checkpoint does."""


class TeacherError(FsaError):
    """A teacher that cannot be reached or answers what nobody can use."""
