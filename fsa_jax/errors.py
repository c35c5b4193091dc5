"""The one family of errors that a user of fsa_jax is meant to read.

Every error says where (a file and line, or a setting), what was expected, what was found, and what
fixes it. Command lines print it without a traceback and exit with 2; everything else that escapes is
a defect of ours and keeps its traceback.
"""

from __future__ import annotations


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


class CheckpointError(FsaError):
    """A checkpoint that cannot be written, read or matched to the model."""


class TeacherError(FsaError):
    """A teacher that cannot be reached or answers what nobody can use."""
