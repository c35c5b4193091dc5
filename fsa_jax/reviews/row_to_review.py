"""Converts a row of a dump to a Review: finds the columns, and handles unusual values.

Known dumps, whose columns are found automatically:

* Yelp: ``review_id text stars business_id`` (categories in the business file);
* Amazon 2014 and 2018: ``reviewerID asin overall reviewText summary``;
* Amazon 2023: ``user_id asin parent_asin rating title text``;
* the papers' release: ``ID Text Overall``;
* Hugging Face and TFDS copies: ``text label`` or ``text stars``. ``label`` counts from 0, so it is used as stars
  only on request (``--columns '{"stars": "label"}' --stars-offset 1``).
"""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from fsa_jax.common.records import Review
from fsa_jax.reviews.raw_row import BadRow, decode

_KNOWN = {
    "id": ("review_id", "ID", "id"),
    "text": ("text", "reviewText", "Text", "review_body", "review", "content"),
    "stars": ("stars", "overall", "rating", "Overall", "star_rating"),
    "item": ("business_id", "parent_asin", "asin", "product_id"),
    "category": ("category", "categories", "main_category", "product_category"),
    "domain": ("domain",),
}
FIELDS = tuple(_KNOWN)

MAX_STARS_CHARACTERS = 40
MAX_CATEGORIES = 1000
MAX_CATEGORY_CHARACTERS = 200
"""Longer names, or more of them, are not real categories and are ignored."""

_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]")
_STARS = re.compile(r"(\d+(?:[.,]\d+)?)\s*(?:stars?|/\s*5|out of 5)?", re.IGNORECASE)


@dataclass(frozen=True)
class Fields:
    """The columns of a review's parts; a part without a given column is searched under the known names.

    Args:
      columns: column name by part (``id text stars item category domain``); dots reach into nested objects
        (``"data.text"``).
      stars_offset: number that is added to the stars, for dumps that count from 0.
    """

    columns: Mapping[str, str]
    stars_offset: float = 0.0

    def get(self, row: Mapping[str, Any], part: str) -> Any:
        name = self.columns.get(part)
        if name is None:
            return next((row[known] for known in _KNOWN[part] if row.get(known) is not None), None)
        value: Any = row
        for key in name.split("."):
            if not isinstance(value, Mapping):
                return None
            value = value.get(key)
        return value

    def present(self, rows: Iterable[Mapping[str, Any]]) -> Fields:
        """Returns these fields without the columns that no row has; their parts are then searched under known names.

        If the column for the stars is removed, the offset is removed too, because it belongs to that column.
        """
        any_row, missing = False, dict(self.columns)
        for row in rows:
            any_row = True
            missing = {part: name for part, name in missing.items() if not _has(row, name)}
            if not missing:
                break
        if not any_row:
            return self
        columns = {part: name for part, name in self.columns.items() if part not in missing}
        is_other = "stars" in self.columns and "stars" not in columns
        return Fields(columns, 0.0 if is_other else self.stars_offset)


def _has(row: Mapping[str, Any], name: str) -> bool:
    value: Any = row
    for key in name.split("."):
        if not isinstance(value, Mapping) or key not in value:
            return False
        value = value[key]
    return True


@dataclass(frozen=True)
class Parsed:
    """A parsed row: its review (without its domain), and the values from which the domain is found."""

    review: Review
    item: str | None
    categories: tuple[str, ...]
    repairs: tuple[str, ...]


def parse_review(row: Mapping[str, Any], fields: Fields) -> Parsed | BadRow:
    """The review of a row; or a BadRow if it has no text, or its stars are not a number from 0 to 5."""
    raw_text = fields.get(row, "text")
    repairs: tuple[str, ...] = ()
    if isinstance(raw_text, bytes):
        raw_text, repairs = decode(raw_text)
    if not isinstance(raw_text, str):
        return BadRow("no text")
    text, cleaned = clean_text(raw_text)
    repairs += cleaned
    if not any(character.isalnum() for character in text):
        return BadRow("no text")
    stars = _stars(fields.get(row, "stars"), fields.stars_offset)
    if isinstance(stars, BadRow):
        return stars
    domain = fields.get(row, "domain")
    return Parsed(
        Review(
            id=identifier(fields.get(row, "id")) or content_id(text),
            text=text,
            stars=stars,
            domain=clean_text(domain)[0] or None if isinstance(domain, str) else None,
        ),
        identifier(fields.get(row, "item")),
        category_names(fields.get(row, "category")),
        repairs,
    )


def identifier(value: Any) -> str | None:
    """An id as text; None if there is none."""
    if isinstance(value, bytes):
        value = decode(value)[0]
    # bool is a subclass of int, but a flag is not an id.
    return clean_text(str(value))[0] or None if isinstance(value, str | int) and not isinstance(value, bool) else None


def clean_text(text: str) -> tuple[str, tuple[str, ...]]:
    """Removes lone surrogates and control characters, for UTF-8 and Parquet; returns the text and what was fixed."""
    repairs = []
    try:
        text.encode()
    except UnicodeEncodeError:
        text = text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
        repairs.append("half a surrogate pair")
    cleaned = _CONTROL.sub(" ", text)
    if cleaned != text:
        repairs.append("control characters replaced by spaces")
    return cleaned.strip(), tuple(repairs)


def content_id(text: str) -> str:
    """An id for a review without one. It depends on the text only, not on the file."""
    return "t" + hashlib.blake2b(text.encode(), digest_size=8).hexdigest()


def known_names(part: str) -> tuple[str, ...]:
    """The names that the column of a part (``id text stars item category domain``) has in the known dumps."""
    return _KNOWN[part]


def category_names(value: Any) -> tuple[str, ...]:
    """Category names in any format of the known dumps: ``"A, B"``, ``["A", "B"]`` or Amazon's lists of lists."""
    names: list[str] = []
    waiting = [value]
    while waiting and len(names) < MAX_CATEGORIES:
        part = waiting.pop()
        if isinstance(part, str):
            parts = (name.strip() for name in re.split(r"[,;|>]", part, maxsplit=MAX_CATEGORIES))
            names.extend(name for name in parts if name and len(name) <= MAX_CATEGORY_CHARACTERS)
        elif isinstance(part, list | tuple):
            waiting.extend(reversed(part))
    return tuple(names[:MAX_CATEGORIES])


def _stars(value: Any, offset: float) -> float | BadRow | None:
    if value is None or value == "":
        return None
    if isinstance(value, str):
        match = _STARS.fullmatch(value.strip()) if len(value) <= MAX_STARS_CHARACTERS else None
        value = float(match[1].replace(",", ".")) if match else None
    if isinstance(value, bool) or not isinstance(value, int | float):
        return BadRow("stars that are no number")
    try:
        stars = float(value) + offset
    except OverflowError:
        return BadRow("stars outside 0 to 5")
    if not math.isfinite(stars):
        return BadRow("stars that are no number")
    # Adding 0.0 changes -0.0 to 0.0.
    return stars + 0.0 if 0 <= stars <= 5 else BadRow("stars outside 0 to 5")
