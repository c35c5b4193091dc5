"""Damages bytes like disks, interrupted copies and editors damage files."""

from __future__ import annotations

import random


def _cut(data: bytearray, rng: random.Random) -> str:
    at = rng.randrange(len(data))
    del data[at:]
    return f"cut off at byte {at}"


def _flip_bit(data: bytearray, rng: random.Random) -> str:
    at, bit = rng.randrange(len(data)), rng.randrange(8)
    data[at] ^= 1 << bit
    return f"bit {bit} of byte {at} flipped"


def _set_byte(data: bytearray, rng: random.Random) -> str:
    at, value = rng.randrange(len(data)), rng.randrange(1, 256)
    data[at] ^= value
    return f"byte {at} changed"


def _zero(data: bytearray, rng: random.Random) -> str:
    at, size = rng.randrange(len(data)), rng.randrange(1, 65)
    data[at : at + size] = bytes(len(data[at : at + size]))
    return f"{size} bytes at {at} are zero"


def _remove(data: bytearray, rng: random.Random) -> str:
    at, size = rng.randrange(len(data)), rng.randrange(1, 65)
    del data[at : at + size]
    return f"{size} bytes at {at} removed"


def _insert(data: bytearray, rng: random.Random) -> str:
    at, size = rng.randrange(len(data) + 1), rng.randrange(1, 65)
    data[at:at] = rng.randbytes(size)
    return f"{size} random bytes inserted at {at}"


def _repeat(data: bytearray, rng: random.Random) -> str:
    at, size = rng.randrange(len(data)), rng.randrange(1, 257)
    data[at:at] = data[at : at + size]
    return f"{size} bytes at {at} repeated"


KINDS = (_cut, _flip_bit, _set_byte, _zero, _remove, _insert, _repeat)


def damaged(data: bytes, rng: random.Random) -> tuple[str, bytes]:
    """Returns a description of a random damage, and ``data`` (not empty) with it, which is never unchanged."""
    while True:
        copy = bytearray(data)
        said = rng.choice(KINDS)(copy, rng)
        if copy != data:
            return said, bytes(copy)
