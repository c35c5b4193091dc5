"""Writes a generated world to disk in the layout of the released data, byte-order marks included (docs/data.md)."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from fsa_jax.common.records import Understanding
from fsa_jax.synthetic.grammar import KnownOpinion, Passage
from fsa_jax.synthetic.laptops import LAPTOPS
from fsa_jax.synthetic.lexicon import Domain
from fsa_jax.synthetic.oracle import Oracle
from fsa_jax.synthetic.restaurants import RESTAURANTS
from fsa_jax.synthetic.world import KnownReview, SplitSizes, draw_labelled, draw_reviews

DATASETS: tuple[tuple[str, Domain], ...] = (
    ("atsa/rest14", RESTAURANTS),
    ("atsa/laptop14", LAPTOPS),
    ("acsa/rest16", RESTAURANTS),
    ("acsa/laptop16", LAPTOPS),
)


RESPONSE_KEY = "oracle_response"
"""As in the released corpus, both forms of text use the same key, which names the teacher."""


TEACHER_FILE = Path("teacher") / "oracle_reviews.jsonl"


def write_labelled(directory: Path, seed: int, sizes: SplitSizes) -> frozenset[str]:
    """Writes ``fsa/{atsa,acsa}/…/{train,dev,test,hard_test}.json``.

    Returns:
      The dev and test sentences with an explicit target, which must not occur in reviews of the same world.
    """
    withheld: set[str] = set()
    for name, domain in DATASETS:
        with_categories = name.startswith("acsa/")
        for split, passages in draw_labelled(seed, name, domain, sizes, with_categories).items():
            path = directory / "fsa" / name / f"{split}.json"
            path.parent.mkdir(parents=True, exist_ok=True)
            # The released files have annotated opinion words in the test sets only.
            with_words = split in ("test", "hard_test")
            rows = [
                {
                    "ID": f"{split}:{number}",
                    "sentence": passage.text,
                    "aspects": [
                        _aspect(passage, opinion, domain, with_categories, with_words) for opinion in passage.opinions
                    ],
                }
                for number, passage in enumerate(passages)
            ]
            path.write_text(json.dumps(rows, ensure_ascii=False, indent=1), encoding="utf-8-sig")
            if split != "train":
                withheld.update(p.text for p in passages if any(opinion.target for opinion in p.opinions))
    return frozenset(withheld)


def write_reviews(directory: Path, reviews: Iterable[KnownReview]) -> Path:
    """Writes ``reviews/reviews.jsonl`` with one ``Review`` record per line, for the sampling stage."""
    path = directory / "reviews" / "reviews.jsonl"
    _write_lines(path, (known.review.model_dump(mode="json") for known in reviews), encoding="utf-8")
    return path


def write_teacher_text(
    directory: Path,
    reviews: Iterable[KnownReview],
    oracle: Oracle,
    understandings: tuple[Understanding, ...] = ("analysis", "rewriting"),
    progress: Callable[[], Any] = lambda: None,
) -> Path:
    """Writes ``TEACHER_FILE`` with the oracle's answers; calls ``progress`` after every review.

    If the oracle finds no opinion in a review, there is no analysis, and its row is left out.
    """
    path = directory / TEACHER_FILE

    def rows() -> Iterable[dict[str, Any]]:
        for known in reviews:
            review = known.review
            for understanding in understandings:
                text = oracle.write(known, understanding)
                if text:
                    yield {"ID": int(review.id), "Text": review.text, "Overall": review.stars, RESPONSE_KEY: text}
            progress()

    _write_lines(path, rows(), encoding="utf-8-sig")
    return path


def generate(
    directory: Path,
    seed: int,
    reviews: int,
    sizes: SplitSizes,
    oracle: Oracle,
    progress: Callable[[], Any] = lambda: None,
) -> None:
    """Writes a whole world: labelled datasets, reviews and teacher text."""
    known = list(draw_reviews(seed, reviews, withheld=write_labelled(directory, seed, sizes)))
    write_reviews(directory, known)
    write_teacher_text(directory, known, oracle, progress=progress)


def _aspect(
    passage: Passage, opinion: KnownOpinion, domain: Domain, with_category: bool, with_words: bool
) -> dict[str, Any]:
    facet = opinion.draft.facet
    row: dict[str, Any] = {
        "from": opinion.start,
        "to": opinion.end,
        "target": opinion.target,
        "category": (facet.category if facet else domain.general_category) if with_category else None,
        "polarity": opinion.draft.polarity,
    }
    if with_words:
        row["opinion_words"] = [
            {"from": start, "to": end, "opinion": passage.text[start:end]} for start, end in opinion.opinion_words
        ]
    return row


def _write_lines(path: Path, rows: Iterable[dict[str, Any]], encoding: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding=encoding) as lines:
        for row in rows:
            lines.write(json.dumps(row, ensure_ascii=False) + "\n")
