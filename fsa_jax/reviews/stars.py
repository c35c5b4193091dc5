"""Star ratings on other scales: reads a rating, decides on which scale the numbers of a file are, maps it to 1..5.

A rating that states its scale ("8/10", "80%", "★★★★☆", "thumbs up") is mapped alone. The scale of plain numbers is
decided once for a file, from all its numbers, because 4 means something else among numbers up to 10 than among numbers
up to 5.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from dataclasses import dataclass
from typing import Any

from fsa_base.errors import SettingError
from fsa_jax.reviews.raw_row import BadRow

MAX_RATING_CHARACTERS = 40
NO_NUMBER = BadRow("stars that are no number")


@dataclass(frozen=True)
class Scale:
    """A scale from which ratings are mapped linearly: ``low`` becomes 1 star and ``high`` 5 stars."""

    name: str
    low: float
    high: float

    def stars(self, value: float) -> float | None:
        """The stars of a rating, rounded to two decimals; None if the rating is outside the scale."""
        if not self.low <= value <= self.high:
            return None
        if self is UNCHANGED:
            return value + 0.0  # Adding 0.0 changes -0.0 to 0.0.
        return round(1 + 4 * (value - self.low) / (self.high - self.low), 2)

    @property
    def mapping(self) -> str:
        """How ratings are mapped, such as ``0→1, 5→3, 10→5``."""
        if self is UNCHANGED:
            return "unchanged"
        if self in (THUMBS, FLAGS):
            return "down→1, neutral→3, up→5"
        return f"{self.low:g}→1, {(self.low + self.high) / 2:g}→3, {self.high:g}→5"


UNCHANGED = Scale("unchanged", 0, 5)
"""Numbers from 0 to 5 are stars and stay as they are."""
THUMBS = Scale("thumbs", -1, 1)
FLAGS = Scale("true or false", -1, 1)
"""``true`` and ``false``. They are read as thumbs only in files where no rating is a number."""
TEN = Scale("1-10", 1, 10)
TEN_FROM_ZERO = Scale("0-10", 0, 10)
HUNDRED = Scale("0-100", 0, 100)

AUTO = "auto"
_RANGE = re.compile(r"(\d{1,4}(?:\.\d{1,4})?)-(\d{1,4}(?:\.\d{1,4})?)")


def parse_scale(text: str) -> Scale | None:
    """The scale that a user names: ``0-10``, ``thumbs``, ``unchanged``; None for ``auto``.

    Raises:
      SettingError: it is none of these.
    """
    if text == AUTO:
        return None
    for scale in (UNCHANGED, THUMBS):
        if text == scale.name:
            return scale
    match = _RANGE.fullmatch(text)
    if match is None or float(match[1]) >= float(match[2]):
        raise SettingError(
            "--stars-scale",
            expected="the lowest and the highest rating, such as 0-10, or thumbs, unchanged or auto",
            found=repr(text),
            fix="write LOW-HIGH; for one of several sources, NAME=LOW-HIGH with its domain or path",
        )
    return Scale(f"{float(match[1]):g}-{float(match[2]):g}", float(match[1]), float(match[2]))


@dataclass(frozen=True)
class Rating:
    """A rating as a file gives it. ``scale`` is the scale that it states; None for a plain number."""

    value: float
    scale: Scale | None = None

    def stars(self, file_scale: Scale) -> float | BadRow:
        """The stars, 1 to 5 (0 to 5 on the scale UNCHANGED).

        Args:
          file_scale: scale of the plain numbers of the file, or THUMBS.
        """
        if self.scale is FLAGS and file_scale is not THUMBS:
            return NO_NUMBER
        if self.scale is None and file_scale is THUMBS:
            return BadRow("a number as stars, among thumbs up and down")
        scale = file_scale if self.scale is None else self.scale
        stars = scale.stars(self.value)
        if stars is not None:
            return stars
        return BadRow(f"stars outside {scale.low:g} to {scale.high:g}" if self.scale in (None, UNCHANGED) else _ABOVE)


_ABOVE = "stars above the maximum that is stated with them"
_STATED = re.compile(
    r"(?:rated\s++)?(\d++(?:[.,]\d++)?+)\s*+(?:(%)|(?:(?:/|out of|of)\s*+(\d{1,3})(?:[.,]0)?)?\s*+(?:stars?)?)",
    re.IGNORECASE,
)
_SMALLEST_MAXIMUM, _LARGEST_MAXIMUM = 3, 100
_FULL, _EMPTY, _HALF = "★⭐", "☆", "½"
_WORDS = {
    **dict.fromkeys(("thumbs up", "👍", "positive", "recommended"), Rating(1, THUMBS)),
    **dict.fromkeys(("thumbs down", "👎", "negative", "not recommended"), Rating(-1, THUMBS)),
    "neutral": Rating(0, THUMBS),
    **dict.fromkeys(("true", "yes"), Rating(1, FLAGS)),
    **dict.fromkeys(("false", "no"), Rating(-1, FLAGS)),
}
"""Other words are not guessed."""


def read_rating(value: Any, offset: float = 0.0) -> Rating | BadRow | None:
    """The rating of a row; None if it has none, a BadRow if the value is no rating.

    Args:
      value: value of the column of the stars.
      offset: number that is added to plain numbers.
    """
    if value is None or value == "":
        return None
    if isinstance(value, bool):
        return Rating(1 if value else -1, FLAGS)
    if isinstance(value, str):
        value = _read_text(value)
        if isinstance(value, Rating | BadRow):
            return value
    if not isinstance(value, int | float):
        return NO_NUMBER
    try:
        number = float(value) + offset
    except OverflowError:
        return BadRow("stars outside 0 to 5")
    return Rating(number) if math.isfinite(number) else NO_NUMBER


def _read_text(text: str) -> float | Rating | BadRow:
    if len(text) > MAX_RATING_CHARACTERS:
        return NO_NUMBER
    text = text.strip().replace("\ufe0f", "")  # U+FE0F only asks for a coloured symbol
    if match := _STATED.fullmatch(text):
        number = float(match[1].replace(",", "."))
        if match[2]:
            return Rating(number, HUNDRED)
        if match[3] is None:
            return number
        maximum = int(match[3])
        if maximum == UNCHANGED.high:
            return Rating(number, UNCHANGED)
        in_limits = _SMALLEST_MAXIMUM <= maximum <= _LARGEST_MAXIMUM
        return Rating(number, Scale(f"0-{maximum}", 0, maximum)) if in_limits else NO_NUMBER
    full, half, empty = sum(map(text.count, _FULL)), text.count(_HALF), text.count(_EMPTY)
    if full + half and full + empty and half <= 1 and full + half + empty == len(text) <= UNCHANGED.high:
        return Rating(full + half / 2, UNCHANGED)
    return _WORDS.get(" ".join(re.sub("[-_]", " ", text.casefold()).split()), NO_NUMBER)


class Ratings:
    """Counts the ratings of a file, from which the scale of its numbers is decided; needs no memory per row."""

    def __init__(self) -> None:
        self._numbers: Counter[str] = Counter()
        self._stated: Counter[str] = Counter()
        self.used: Counter[Scale] = Counter()
        """Number of ratings that were mapped, by their scale."""

    def add(self, rating: Rating | BadRow | None, file_scale: Scale | None = None) -> None:
        """Counts a rating. If the scale of the file is known, it also counts by which scale the rating is mapped."""
        if not isinstance(rating, Rating):
            return
        if rating.scale is None:
            self._numbers[_range_of(rating.value)] += 1
        else:
            self._stated[rating.scale.name] += 1
        if file_scale is not None and not isinstance(rating.stars(file_scale), BadRow):
            self.used[file_scale if rating.scale in (None, FLAGS) else rating.scale] += 1

    @property
    def are_plain(self) -> bool:
        """Whether everything found is on the scale UNCHANGED, so that the first rows of a file are enough to decide."""
        return self.scale() is UNCHANGED and not self._numbers["up to 10"]

    def scale(self) -> Scale | None:
        """The scale of the numbers, or THUMBS; None if it cannot be decided.

        * Numbers up to 5 are stars. At most 2 larger numbers, or 1 in 100, are taken for errors.
        * If more than a fifth of the numbers are above 5 (and up to 10), it is a scale of ten.
        * If most numbers are above 10, it is a scale of a hundred.
        * If there are only 0 and 1, or as many numbers as ratings on another stated scale, it cannot be decided.
        """
        count = self._numbers
        known = sum(count[name] for name in (*_UP_TO_FIVE, "up to 10", "up to 100"))
        flags = self._stated[FLAGS.name]
        others = self._stated.total() - sum(self._stated[scale.name] for scale in (UNCHANGED, THUMBS, FLAGS))
        if flags and _few(known, flags + known):
            return THUMBS
        if not _few(others, others + known) and not _few(known, others + known):
            return None
        if not known:
            return UNCHANGED
        hundred, ten = count["up to 100"], count["up to 10"]
        if 2 * hundred > known:
            return HUNDRED
        if not _few(hundred, known):
            return None
        rest = known - hundred
        if _few(ten, rest):
            binary = count["0"] and count["1"] and count["0"] + count["1"] == known > 2
            return None if binary else UNCHANGED
        if 5 * ten <= rest:
            return None
        return TEN_FROM_ZERO if count["0"] or count["below 1"] else TEN

    def __str__(self) -> str:
        parts = {label: self._numbers[name] for name, label in _LABELS.items()}
        parts |= {f"on the scale {name}": count for name, count in self._stated.items()}
        return ", ".join(f"{count:,} x {label}" for label, count in parts.items() if count) or "none"


_UP_TO_FIVE = ("0", "below 1", "1", "up to 5")
_LABELS = {
    "0": "0",
    "below 1": "between 0 and 1",
    "1": "1",
    "up to 5": "above 1 to 5",
    "up to 10": "above 5 to 10",
    "up to 100": "above 10 to 100",
    "other": "other numbers",
}


def _range_of(value: float) -> str:
    if value in (0, 1):
        return f"{value:g}".lstrip("-")
    if value < 0 or value > 100:
        return "other"
    return "below 1" if value < 1 else "up to 5" if value <= 5 else "up to 10" if value <= 10 else "up to 100"


def _few(count: int, of: int) -> bool:
    """Whether a number of rows is so small that they may be errors."""
    return count == 0 or (2 * count < of and (count <= 2 or 100 * count <= of))
