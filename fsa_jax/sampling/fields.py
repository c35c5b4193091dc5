"""From a dump's row to a Review: which column holds what, and what to do with odd values.

Known dumps (their column names are found without being told):

* Yelp: ``review_id text stars business_id`` (categories in the business file);
* Amazon 2014 and 2018: ``reviewerID asin overall reviewText summary``;
* Amazon 2023: ``user_id asin parent_asin rating title text``;
* the papers' release: ``ID Text Overall``;
* Hugging Face and TFDS copies: ``text label`` or ``text stars``. ``label`` counts from 0 there, so it is read as stars
  only where it is asked for (``--columns '{"stars": "label"}' --stars-offset 1``).
"""

from __future__ import annotations

import hashlib
import math
import re
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from fsa_jax.records import Review
from fsa_jax.sampling.rows import BadRow

_KNOWN = {
    "id": ("review_id", "ID", "id"),
    "text": ("text", "reviewText", "Text", "review_body", "review", "content"),
    "stars": ("stars", "overall", "rating", "Overall", "star_rating"),
    "item": ("business_id", "parent_asin", "asin", "product_id"),
    "category": ("category", "categories", "main_category", "product_category"),
    "domain": ("domain",),
}
FIELDS = tuple(_KNOWN)


@dataclass(frozen=True)
class Fields:
    """Names of the columns that hold a review's parts; a part without a name is looked for under the known names.

    Args:
      columns: from ``id text stars item category domain`` to the column's name; dots reach into nested objects
        (``"data.text"``).
      stars_offset: added to the stars, for dumps that count from 0.
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


@dataclass(frozen=True)
class Parsed:
    """A readable row: its review (domain not yet known), and what the domain is found by."""

    review: Review
    item: str | None
    categories: tuple[str, ...]
    repairs: tuple[str, ...]


def parse_review(row: Mapping[str, Any], fields: Fields) -> Parsed | BadRow:
    """The review of a row, or why there is none: no text, or stars that are no number from 0 to 5."""
    raw_text = fields.get(row, "text")
    if isinstance(raw_text, bytes):
        raw_text = raw_text.decode("utf-8", errors="replace")
    if not isinstance(raw_text, str):
        return BadRow("no text")
    text, repairs = clean_text(raw_text)
    if not any(character.isalnum() for character in text):
        return BadRow("no text")
    stars = _stars(fields.get(row, "stars"), fields.stars_offset)
    if isinstance(stars, BadRow):
        return stars
    raw_id = fields.get(row, "id")
    if isinstance(raw_id, bytes):
        raw_id = raw_id.decode("utf-8", errors="replace")
    # bool is an int; a flag is no id.
    has_id = isinstance(raw_id, str | int) and not isinstance(raw_id, bool) and str(raw_id).strip()
    domain, item = fields.get(row, "domain"), fields.get(row, "item")
    return Parsed(
        Review(
            id=clean_text(str(raw_id))[0] if has_id else content_id(text),
            text=text,
            stars=stars,
            domain=domain.strip() or None if isinstance(domain, str) else None,
        ),
        str(item) if item is not None else None,
        category_names(fields.get(row, "category")),
        repairs,
    )


def clean_text(text: str) -> tuple[str, tuple[str, ...]]:
    """Text that UTF-8 and Parquet can hold, and what was fixed: lone surrogates, control characters."""
    repairs = []
    if any("\ud800" <= character <= "\udfff" for character in text):
        text = text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
        repairs.append("half a surrogate pair")
    cleaned = re.sub(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]", " ", text)
    if cleaned != text:
        repairs.append("control characters replaced by spaces")
    return cleaned.strip(), tuple(repairs)


def content_id(text: str) -> str:
    """An id for a review whose source has none: the same text has the same id, whatever file it came in."""
    return "t" + hashlib.blake2b(text.encode(), digest_size=8).hexdigest()


def category_names(value: Any) -> tuple[str, ...]:
    """Category names however a dump writes them: ``"A, B"``, ``["A", "B"]`` or Amazon's lists of lists."""
    if isinstance(value, str):
        return tuple(part.strip() for part in re.split(r"[,;|>]", value) if part.strip())
    if isinstance(value, list | tuple):
        return tuple(name for part in value for name in category_names(part))
    return ()


def _stars(value: Any, offset: float) -> float | BadRow | None:
    if value is None or value == "":
        return None
    if isinstance(value, str):
        match = re.fullmatch(r"\s*(\d+(?:[.,]\d+)?)\s*+(?:stars?|/\s*5|out of 5)?\s*", value, re.IGNORECASE)
        value = float(match[1].replace(",", ".")) if match else None
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return BadRow("stars that are no number")
    stars = float(value) + offset
    return stars if 0 <= stars <= 5 else BadRow("stars outside 0 to 5")


def normalise(text: str) -> str:
    """The words of a text, case and compatibility forms folded: what two copies of a review have in common."""
    return " ".join(re.findall(r"\w+", unicodedata.normalize("NFKC", text).casefold()))
