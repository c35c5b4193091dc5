"""Reads the reviews for a teacher from any file that the sampler can read; unreadable rows are counted."""

from __future__ import annotations

from collections.abc import Iterator

from fsa_jax.common.records import Review
from fsa_jax.reviews.fields import Fields, parse_review
from fsa_jax.reviews.raw_row import BadRow
from fsa_jax.reviews.source import Losses, Source, row_count


def read_reviews(sources: list[Source], losses: Losses, limit: int | None = None) -> Iterator[Review]:
    """Yields reviews in the order of their files, one at a time.

    Args:
      sources: files or folders: output of ``fsa sample``, the papers' release (``ID Text Overall``), or a dump.
      losses: counter of rows without text, broken JSON, fixed encodings and so on, with their places.
      limit: largest number of reviews; None for all.

    Raises:
      DataError: the content of a file does not fit its name.
    """
    fields = Fields({})
    count = 0
    for source in sources:
        for name, rows in source.parts():
            number = 0
            for raw in rows():
                if count == limit:
                    return
                place = f"{name}:{raw.line or number + 1}"
                number += row_count(raw)
                losses.read += row_count(raw)
                row = raw if isinstance(raw, BadRow) else raw.parse()
                parsed = row if isinstance(row, BadRow) else parse_review(row, fields)
                if isinstance(parsed, BadRow):
                    losses.drop(parsed.reason, place, row_count(raw))
                    continue
                for repair in parsed.repairs if isinstance(raw, BadRow) else (*raw.repairs, *parsed.repairs):
                    losses.repair(repair, place)
                count += 1
                losses.kept += 1
                yield parsed.review
