"""What is checked: generations of the store with their reviews, or a file as the papers' authors released theirs."""

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
"""Stands for the prompt hash of the authors' text; the wording of their prompts is not public."""


def released(path: Path, skipped: Counter[str]) -> Iterator[tuple[Review, Generation]]:
    """Rows of the authors' layout, ``ID Text Overall TEACHER_response``; one row may hold several teachers' text.

    Analysis and rewriting stand under the same key and are told apart by their form.

    Args:
      path: file, or folder of files.
      skipped: gets the reasons of rows that hold no review or no text.

    Raises:
      DataError: no row has a ``…_response``.
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
    """Reviews by id in a file, so that a million of them cost no memory. The first one with an id is taken.

    Args:
      path: scratch file, new.
      reviews: all reviews.
      unused: counts reviews that differ from the one that has their id; a mere copy is no loss.
    """

    def __init__(self, path: Path, reviews: Iterable[Review], unused: Counter[str]):
        self._database = sqlite3.connect(path)
        # The file is scratch: losing it loses nothing.
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
    """Generations with their reviews; those whose review is not there, or has another text, are counted in ``skipped``.

    A review's text may change under its id (a newer dump, a fixed encoding). Both texts are asked about, and the answer
    to the old one must not be learned with the new one.
    """
    for row in stored:
        review = reviews.get(row.review_id)
        if review is None:
            skipped["generation without its review"] += 1
        # fsa teach cleans what it reads; the reviews here are as their file has them.
        elif not row.is_about(review.text) and not row.is_about(clean_text(review.text)[0]):
            skipped["generation about another text of its review"] += 1
        else:
            yield review, row.generation(keep_cut_off=True)
