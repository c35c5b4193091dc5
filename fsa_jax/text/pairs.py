"""Pairs as text, ``term | polarity ; term | polarity``: what the ATSA and the ACSA codecs share."""

from __future__ import annotations

from collections.abc import Iterable

from fsa_jax.common.records import POLARITIES

SEPARATOR = ";"
DELIMITER = "|"


def readable(name: str) -> bool:
    """Whether a term or category can be told from the form's own ``;`` and ``|``, so that it comes back when read."""
    return bool(name.strip()) and SEPARATOR not in name and DELIMITER not in name


def write_pairs(pairs: Iterable[tuple[str, str]]) -> str:
    """Writes pairs in their order."""
    return f" {SEPARATOR} ".join(f"{name} {DELIMITER} {polarity}" for name, polarity in pairs)


def read_pairs(text: str) -> list[tuple[str, str]]:
    """Reads the parts that have exactly one ``|`` and a known polarity, duplicates included (released scoring rule)."""
    pairs = []
    for part in text.split(SEPARATOR):
        name, _, polarity = part.partition(DELIMITER)
        if part.count(DELIMITER) == 1 and polarity.strip() in POLARITIES:
            pairs.append((name.strip(), polarity.strip()))
    return pairs
