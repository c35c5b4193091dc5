"""Text to a student's token ids and back, without TensorFlow: T5's SentencePiece models and chat templates."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol


class Tokenizer(Protocol):
    """What a predictor needs to know of a student's tokens."""

    decoder_only: bool
    end_ids: tuple[int, ...]
    """Ids that end an output; an encoder-decoder has one."""

    def encode_input(self, text: str, limit: int) -> tuple[list[int], bool]:
        """Ids of an input of at most ``limit`` tokens, and whether it was cut."""
        ...

    def encode_target(self, text: str) -> list[int]:
        """Ids of an output, its end included."""
        ...

    def decode(self, ids: Sequence[int]) -> str:
        """Text of an output, up to its end."""
        ...
