"""Input of the check: a generation store with its reviews, or a file in the layout of the papers' authors."""

from __future__ import annotations

import re
import sqlite3
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import closing
from pathlib import Path

from fsa_base.errors import DataError
from fsa_jax.common.records import Generation, Review
from fsa_jax.reviews.fields import Fields, clean_text, parse_review
from fsa_jax.reviews.raw_row import BadRow
from fsa_jax.reviews.rows import expand, raw_rows
from fsa_jax.teacher.store import StoredGeneration
from fsa_jax.text.analysis import is_analysis

_RESPONSE = re.compile(r"(?P<teacher>\w+)_response")
RELEASED_PROMPT = "released"
"""Used as the prompt hash of the authors' teacher text, because the wording of their prompts is not public."""


def released(path: Path, skipped: Counter[str]) -> Iterator[tuple[Review, Generation]]:
    """Reads rows in the authors' layout, ``ID Text Overall TEACHER_response``; a row may have text of several teachers.

    Analysis and rewriting use the same column name; the text itself shows which form it is.

    Args:
      path: file, or folder of files.
      skipped: counter by reason of rows without a review or without teacher text.

    Raises:
      DataError: no row has a ``…_response`` column.
    """
    fields = Fields({})
    responses = 0
    for file in expand(path):
        for raw in raw_rows(file):
            row = raw if isinstance(raw, BadRow) else raw.parse()
            parsed = row if isinstance(row, BadRow) else parse_review(row, fields)
            if isinstance(row, BadRow) or isinstance(parsed, BadRow):
                bad = row if isinstance(row, BadRow) else parsed
                skipped[bad.reason] += bad.rows  # pyright: ignore[reportAttributeAccessIssue]
                continue
            found = [(match["teacher"], row[key]) for key in row if (match := _RESPONSE.fullmatch(key))]
            if not found:
                skipped["no …_response column"] += 1
            for teacher, text in found:
                responses += 1
                text = text if isinstance(text, str) else ""
                yield (
                    parsed.review,
                    Generation(
                        review_id=parsed.review.id,
                        understanding="analysis" if is_analysis(text) else "rewriting",
                        prompt_hash=RELEASED_PROMPT,
                        teacher=teacher,
                        text=text,
                    ),
                )
    if not responses:
        raise DataError(
            path,
            expected="rows with ID, Text, Overall and TEACHER_response",
            found=", ".join(f"{count} x {reason}" for reason, count in skipped.most_common()) or "no row",
            fix="name a generation store with --reviews REVIEWS.parquet, or a file in the released layout",
        )


class ReviewIndex:
    """An index of reviews by id in a file, so that a million reviews need no memory. Of equal ids, the first is used.

    Args:
      path: path of a new temporary file.
      reviews: all reviews.
      unused: counter of reviews whose id was used before by a different review; exact copies are not counted.
    """

    def __init__(self, path: Path, reviews: Iterable[Review], unused: Counter[str]):
        self._database = sqlite3.connect(path)
        # The file is temporary, so it need not survive a crash.
        self._database.execute("PRAGMA synchronous = OFF")
        self._database.execute("PRAGMA journal_mode = OFF")
        self._database.execute("CREATE TABLE review (id TEXT PRIMARY KEY, json TEXT) WITHOUT ROWID")
        for review in reviews:
            row = review.id, review.model_dump_json()
            new = self._database.execute("INSERT OR IGNORE INTO review VALUES (?, ?)", row).rowcount
            if not new and self.get(review.id) != review:
                unused["another review with an id that was there before"] += 1
        self._database.commit()

    def get(self, review_id: str) -> Review | None:
        with closing(self._database.execute("SELECT json FROM review WHERE id = ?", (review_id,))) as found:
            row = found.fetchone()
        return Review.model_validate_json(row[0]) if row else None

    def close(self) -> None:
        self._database.close()


def from_store(
    stored: Iterable[StoredGeneration], reviews: ReviewIndex, skipped: Counter[str]
) -> Iterator[tuple[Review, Generation]]:
    """Generations with their reviews; ``skipped`` counts those whose review is missing or has another text.

    The text of a review may change while its id stays the same (a newer dump, a fixed encoding). The store then has
    generations about both texts, and a generation about the old text must not be paired with the new text.
    """
    for row in stored:
        review = reviews.get(row.review_id)
        if review is None:
            skipped["generation without its review"] += 1
        # fsa teach cleans the text of reviews; here the reviews are as in their file.
        elif not row.is_about(review.text) and not row.is_about(clean_text(review.text)[0]):
            skipped["generation about another text of its review"] += 1
        else:
            yield review, row.generation(keep_cut_off=True)
