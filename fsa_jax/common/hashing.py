"""Hashes of text that are the same on every machine and in every version of Python."""

from __future__ import annotations

import hashlib


def hash64(text: str, seed: int = 0) -> int:
    """Seeded 64-bit hash of a text as it stands."""
    key = (seed % 2**64).to_bytes(8, "little")
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8, key=key).digest(), "little")
