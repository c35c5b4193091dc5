"""The errors that are meant for users of fsa_jax.

Every error says where it happened (a file and line, or a setting), what was expected, what was found, and how to fix
it. Commands print it without a traceback and exit with status 2. Any other exception is a bug of fsa_jax and keeps its
traceback.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterable
from numbers import Integral
from typing import SupportsFloat

_SHOWN = 12


class FsaError(Exception):
    """An error that the user can fix.

    Args:
      where: file (with ``:line`` if known), command-line option or setting.
      expected: what was expected.
      found: what was found instead.
      fix: command or change that fixes the error.
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
        # Beam and multiprocessing pickle exceptions; by default this fails with keyword-only arguments.
        return (_rebuild, (type(self), self.where, self.expected, self.found, self.fix))


def _rebuild(cls: type[FsaError], where: str, expected: str, found: str, fix: str) -> FsaError:
    return cls(where, expected=expected, found=found, fix=fix)


class DataError(FsaError):
    """A file of reviews, labels or teacher text has unexpected content."""


class MissingDataError(DataError):
    """A file or folder is missing."""


class VocabularyError(FsaError):
    """A vocabulary is missing, or is not the expected one."""


class SettingError(FsaError):
    """A command-line option, gin binding or environment variable has an unusable value."""


def require_choice(
    setting: str, value: object, choices: Iterable[str], fix: str = "--gin.{setting}=\"'{choice}'\""
) -> None:
    """Checks a setting whose value must be one of a few words.

    Args:
      setting: name of the setting.
      value: value of the setting.
      choices: allowed words.
      fix: command that sets it, with the placeholders ``{setting}`` and ``{choice}`` (the most similar word).

    Raises:
      SettingError: ``value`` is not one of the words.
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


def require_number(
    setting: str, value: object, lowest: float, highest: float = math.inf, *, above: bool = False, whole: bool = False
) -> None:
    """Checks a setting whose value must be a number in a range. None is accepted: it stands for a setting left out.

    Args:
      setting: name of the setting.
      value: value of the setting.
      lowest: lowest allowed value.
      highest: highest allowed value.
      above: whether the value must be above ``lowest``.
      whole: whether it must be a whole number.

    Raises:
      SettingError: ``value`` is outside the range, NaN or no number.
    """
    if value is None:
        return
    # Comparisons with NaN are false.
    number = float(value) if isinstance(value, Integral if whole else SupportsFloat) else math.nan
    if lowest <= number <= highest and not (above and number == lowest):
        return
    kind = "a whole number" if whole else "a number"
    expected = f"{kind} {'above' if above else 'of at least'} {lowest:g}"
    if highest < math.inf:
        expected = f"{expected}, at most {highest:g}" if above else f"{kind} from {lowest:g} to {highest:g}"
    raise SettingError(setting, expected=expected, found=repr(value), fix="choose another value, or omit it")


def require_float(setting: str, dtype: object) -> None:
    """Checks the dtype of parameters or activations if it is given as a word; dtype objects and None are accepted.

    Raises:
      SettingError: there is no such floating-point dtype.
    """
    if isinstance(dtype, str):
        require_choice(setting, dtype, ("float32", "bfloat16", "float16", "float64"))


class CheckpointError(FsaError):
    """A checkpoint cannot be written, cannot be read, or does not fit the model."""


class DamagedCheckpointError(CheckpointError):
    """Files of a checkpoint have changed since they were written. Only another checkpoint helps, not a setting."""


class TeacherError(FsaError):
    """A teacher cannot be reached, or its answers are unusable."""
