"""Test sentences that are in the reviews of a distillation corpus.

A review site's sentences are in more than one dataset, so a student may have read a test sentence, though without its
labels, while it was distilled. Most of the consecutive words of a sentence in one review count as an overlap.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from fsa_base.errors import MissingDataError
from fsa_jax.common.records import Record
from fsa_jax.data import teacher_text
from fsa_jax.text.words import words

SHINGLE = 5
"""Consecutive words that are compared; a shorter sentence is compared as a whole."""
LEAST = 0.7
"""Share of a sentence's shingles in one review, from which it counts as an overlap."""
_SHORTEST = 4
"""Sentences of fewer words are in many reviews by chance and are not searched."""


class Overlap(Record):
    """What was found.

    Attributes:
      reviews: number of reviews that were searched.
      sentences: number of test sentences.
      too_short: number of sentences that were not searched.
      found: overlapping texts of test sentences.
    """

    reviews: int
    sentences: int
    too_short: int
    found: frozenset[str]


def find_overlaps(sentences: Sequence[str], reviews: Iterable[str]) -> Overlap:
    """Searches reviews for sentences.

    Example:
      >>> find_overlaps(["The pizza was cold and late."], ["Never again. The pizza was cold and late!"]).found
      frozenset({'The pizza was cold and late.'})

    Args:
      sentences: texts of the test sentences.
      reviews: texts of the reviews; each is read once.
    """
    by_shingle: dict[tuple[str, ...], set[str]] = {}
    counts: dict[str, int] = {}
    texts = list(dict.fromkeys(sentences))
    for text in texts:
        own = _shingles(text)
        if own:
            counts[text] = len(own)
            for shingle in own:
                by_shingle.setdefault(shingle, set()).add(text)
    sizes = sorted({len(shingle) for shingle in by_shingle})
    found: set[str] = set()
    searched = 0
    for review in reviews:
        searched += 1
        hits = Counter(text for shingle in _found_in(review, sizes, by_shingle) for text in by_shingle[shingle])
        found |= {text for text, count in hits.items() if count >= LEAST * counts[text]}
    return Overlap(reviews=searched, sentences=len(texts), too_short=len(texts) - len(counts), found=frozenset(found))


def _shingles(text: str) -> set[tuple[str, ...]]:
    found = words(text)
    if len(found) < _SHORTEST:
        return set()
    size = min(SHINGLE, len(found))
    return {tuple(found[start : start + size]) for start in range(len(found) - size + 1)}


def _found_in(review: str, sizes: Sequence[int], known: Mapping[tuple[str, ...], set[str]]) -> set[tuple[str, ...]]:
    read = words(review)
    return {
        shingle
        for size in sizes
        for start in range(len(read) - size + 1)
        if (shingle := tuple(read[start : start + size])) in known
    }


def files_of(corpus: Path) -> list[Path]:
    """The files of a corpus: teacher text in the papers' layout, or tables of reviews.

    Args:
      corpus: a file or folder: teacher text (``*.jsonl``, also in ``teacher/``), or an output of ``fsa sample``
        (``*.parquet`` with a column ``text``).

    Raises:
      MissingDataError: there is neither.
    """
    patterns = ("*.jsonl", "teacher/*.jsonl", "*.parquet")
    files = [corpus] if corpus.is_file() else [file for pattern in patterns for file in sorted(corpus.glob(pattern))]
    if not files:
        raise MissingDataError(
            f"--corpus {corpus}",
            expected="teacher/*.jsonl, *.jsonl or *.parquet",
            found="none" if corpus.exists() else "nothing",
            fix="give the data directory of the distillation, or an output of fsa sample",
        )
    return files


def reviews_of(corpus: Path) -> Iterator[str]:
    """Texts of the reviews of a corpus (:func:`files_of`); of equal adjacent ones, the first.

    Raises:
      MissingDataError: there are no files.
    """
    previous = None
    for file in files_of(corpus):
        if file.suffix == ".parquet":
            import pyarrow.parquet

            for batch in pyarrow.parquet.ParquetFile(file).iter_batches(columns=["text"]):
                yield from (str(text) for text in batch.column("text").to_pylist() if text)
            continue
        for row in teacher_text.read(file):
            if row.review != previous:
                previous = row.review
                yield row.review
