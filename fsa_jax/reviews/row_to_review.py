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
import html
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from html.entities import html5
from itertools import islice
from typing import Any

from fsa_base.errors import DataError
from fsa_jax.common.records import Review
from fsa_jax.reviews import stars
from fsa_jax.reviews.raw_row import BadRow, RawRow, decode
from fsa_jax.reviews.stars import Rating, Ratings, Scale

_KNOWN = {
    "id": ("review_id", "ID", "id"),
    "text": ("text", "reviewText", "Text", "review_body", "review", "content", "Review", "review_text"),
    "stars": ("stars", "overall", "rating", "Overall", "star_rating", "Rating", "Stars"),
    "item": ("business_id", "parent_asin", "asin", "product_id"),
    "category": ("category", "categories", "main_category", "product_category"),
    "domain": ("domain",),
}
FIELDS = tuple(_KNOWN)

PROBED_ROWS = 1000
"""Number of rows at the start of a file that are read to find its columns and the scale of its stars."""
_SHOWN_COLUMNS = 20
_NAME_CHARACTERS = 60
"""Limits of the list of a file's columns in error messages."""
MAX_CATEGORIES = 1000
MAX_CATEGORY_CHARACTERS = 200
"""Longer names, or more of them, are not real categories and are ignored."""

_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]")
_BREAKS = r"br|p|div|li|ul|ol|hr|h[1-6]|blockquote"
_INLINE = r"a|abbr|b|big|center|cite|del|em|font|i|input|ins|mark|q|s|small|span|strike|strong|sub|sup|u"
_TAG = re.compile(
    rf"</?(?:({_BREAKS})|{_INLINE})(?:\s++[\w:.-]++\s*+=[^<>]*+|\s*+(?:/\s*+)?)>",
    re.IGNORECASE,
)
_ENTITY = re.compile(r"&(?:#\d{1,7}|#[xX][0-9a-fA-F]{1,6}|[A-Za-z][A-Za-z0-9]{1,31});")
_PIECES = re.compile(r"[^<>&;]+|[<>&;]")


@dataclass(frozen=True)
class Fields:
    """The columns of a review's parts, and the scale of the stars.

    Args:
      columns: column name by part (``id text stars item category domain``); dots reach into nested objects
        (``"data.text"``). A part without a given column is searched under the known names.
      stars_offset: number that is added to the stars, for dumps that count from 0.
      scale: scale of ratings that are plain numbers; None if it is unknown, then reviews have no stars.
    """

    columns: Mapping[str, str]
    stars_offset: float = 0.0
    scale: Scale | None = stars.UNCHANGED

    def get(self, row: Mapping[str, Any], part: str) -> Any:
        name = self.columns.get(part)
        if name is None:
            name = _known_name(row, part)
            return None if name is None else row[name]
        value: Any = row
        for key in name.split("."):
            if not isinstance(value, Mapping):
                return None
            value = value.get(key)
        return value

    def rating(self, row: Mapping[str, Any]) -> Rating | BadRow | None:
        """The rating of a row, before it is mapped to stars."""
        return stars.read_rating(self.get(row, "stars"), self.stars_offset)


@dataclass(frozen=True)
class Probe:
    """What the first rows of a file show about it.

    Attributes:
      fields: the user's fields without the columns that no row has, and with the scale of the file's stars. If the
        column for the stars is left out, the offset is too, because it belongs to that column.
      found: name of the column of each part that has one.
      names: the file's columns.
      ratings: the ratings from which the scale was decided.
    """

    fields: Fields
    found: Mapping[str, str]
    names: tuple[str, ...]
    ratings: Ratings

    @property
    def shown_names(self) -> str:
        """The file's columns, for error messages."""
        return ", ".join(self.names[:_SHOWN_COLUMNS]) + (" …" if len(self.names) > _SHOWN_COLUMNS else "") or "none"


def probe(rows: Callable[[], Iterator[RawRow | BadRow]], fields: Fields, scale: Scale | None = None) -> Probe:
    """Reads the first rows of a file to find its columns and the scale of its stars.

    If these rows have other ratings than stars up to 5, all ratings of the file are read to decide the scale.

    Args:
      rows: function that reads the rows of the file from its start.
      fields: columns that the user named; each is used if a row has it.
      scale: scale of the stars; None to decide it.
    """
    any_row, missing = False, dict(fields.columns)
    found: dict[str, str] = {}
    names: dict[str, None] = {}
    for row in _parsed(islice(rows(), PROBED_ROWS)):
        any_row = True
        missing = {part: name for part, name in missing.items() if not _has(row, name)}
        if len(names) <= _SHOWN_COLUMNS:
            names |= dict.fromkeys(str(name)[:_NAME_CHARACTERS] for name in islice(row, _SHOWN_COLUMNS + 1))
        for part in FIELDS:
            if part not in found and (known := _known_name(row, part)) is not None:
                found[part] = known
    if any_row:
        columns = {part: name for part, name in fields.columns.items() if part not in missing}
        is_other = "stars" in fields.columns and "stars" not in columns
        fields = Fields(columns, 0.0 if is_other else fields.stars_offset)
    ratings = Ratings()
    if scale is None:
        for limit in (PROBED_ROWS, None):
            ratings = Ratings()
            for row in _parsed(islice(rows(), limit)):
                ratings.add(fields.rating(row))
            if ratings.are_plain:
                break
        scale = ratings.scale()
    found = {part: name for part in FIELDS if (name := fields.columns.get(part, found.get(part))) is not None}
    return Probe(replace(fields, scale=scale), found, tuple(names), ratings)


def _parsed(rows: Iterator[RawRow | BadRow]) -> Iterator[Mapping[str, Any]]:
    for raw in rows:
        row = raw if isinstance(raw, BadRow) else raw.parse()
        if not isinstance(row, BadRow):
            yield row


def unclear_scale(place: str, ratings: Ratings, used: Scale | None, fix: str) -> DataError:
    """The error for ratings whose scale cannot be decided, or is not the one that the first rows show (``used``)."""
    expected = "ratings whose scale is clear"
    if used is not None:
        name = "0-5" if used is stars.UNCHANGED else used.name
        expected = f"ratings on the scale {name}, as in its first {PROBED_ROWS:,} rows"
    return DataError(place, expected=expected, found=str(ratings), fix=fix)


def _known_name(row: Mapping[str, Any], part: str) -> str | None:
    return next((known for known in _KNOWN[part] if row.get(known) is not None), None)


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


def parse_review(row: Mapping[str, Any], fields: Fields, *, convert_html: bool = True) -> Parsed | BadRow:
    """The review of a row; or a BadRow if it has no text, or its stars are no rating on the scale of ``fields``.

    Args:
      row: row of a dump.
      fields: its columns, and the scale of its stars.
      convert_html: whether HTML in the text is converted (:func:`readable_text`). It must not be if a teacher has read
        the text with it.
    """
    raw_text = fields.get(row, "text")
    repairs: tuple[str, ...] = ()
    if isinstance(raw_text, bytes):
        raw_text, repairs = decode(raw_text)
    if not isinstance(raw_text, str):
        return BadRow("no text")
    text, cleaned = (readable_text if convert_html else clean_text)(raw_text)
    repairs += cleaned
    if not any(character.isalnum() for character in text):
        return BadRow("no text")
    value = None
    if fields.scale is not None and (rating := fields.rating(row)) is not None:
        value = rating if isinstance(rating, BadRow) else rating.stars(fields.scale)
    if isinstance(value, BadRow):
        return value
    domain = fields.get(row, "domain")
    return Parsed(
        Review(
            id=identifier(fields.get(row, "id")) or content_id(text),
            text=text,
            stars=value,
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


def readable_text(text: str) -> tuple[str, tuple[str, ...]]:
    """Cleans the text of a review (:func:`clean_text`) and converts its HTML; also returns what was fixed.

    Entities become their characters, also doubly escaped ones (``&amp;#39;``); tags that end a line (``<br>``, ``<p>``)
    become line ends, and tags of inline markup (``<b>``, ``<a href=…>``) are removed. All else stays, such as ``I <3
    it``, ``a < b`` and unknown tags. The result has nothing more to convert, and the time is linear in the length.
    """
    text, repairs = clean_text(text)
    if _TAG.search(text) is None and _ENTITY.search(text) is None:
        return text, repairs
    converted, kinds = _without_html(text)
    return converted.strip(), (*repairs, *kinds)


def _without_html(text: str) -> tuple[str, tuple[str, ...]]:
    # What is converted may complete another tag or entity (`&amp;lt;br>`). So the result is built from left to right,
    # and whenever its end is a tag or an entity, this end is replaced.
    out: list[str] = []
    tags: list[int] = []  # positions in `out` of each "<" that may still begin a tag
    entities: list[int] = []  # the same for "&"
    kinds: dict[str, None] = {}
    waiting = _PIECES.findall(text)[::-1]
    while waiting:
        piece = waiting.pop()
        if piece == "<":
            tags.append(len(out))
        elif piece == "&":
            entities.append(len(out))
        out.extend(piece)
        innermost = tags[-1] if tags else -1
        if piece == ";" and entities and entities[-1] > innermost:
            start = entities.pop()
            character = _character("".join(out[start:]))
            if character is None:
                # No "&" before this ";" begins an entity, but one before an open tag may, when the tag is removed.
                while entities and entities[-1] > innermost:
                    entities.pop()
                continue
            del out[start:]
            waiting.extend(_PIECES.findall(character)[::-1])
            kinds["HTML entities converted"] = None
        elif piece == ">":
            start = tags.pop() if tags else len(out)
            tag = _TAG.fullmatch("".join(out[start:]))
            if tag is None:
                tags.clear()
                entities.clear()
                continue
            del out[start:]
            while entities and entities[-1] >= start:
                entities.pop()
            if tag[1]:
                _end_line(out, may_be_empty=tag[1].lower() == "br")
            kinds["HTML tags converted"] = None
    return "".join(out), tuple(kinds)


def _character(entity: str) -> str | None:
    """The character of an HTML entity; None if there is no such entity."""
    if not _ENTITY.fullmatch(entity) or (entity[1] != "#" and entity[1:] not in html5):
        return None
    return _CONTROL.sub(" ", html.unescape(entity).replace("\xa0", " "))


def _end_line(out: list[str], may_be_empty: bool) -> None:
    while out and out[-1] in " \t":
        out.pop()
    if (out[-2:] != ["\n", "\n"]) if may_be_empty else (out and out[-1] != "\n"):
        out.append("\n")


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
