"""Text to a student's token ids and back, without TensorFlow: T5's SentencePiece models and chat templates."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol


class Tokenizer(Protocol):
    """Interface of the tokenizers that a predictor can use."""

    decoder_only: bool
    end_ids: tuple[int, ...]
    """Ids that end an output; an encoder-decoder student has one."""

    def encode_input(self, text: str, limit: int) -> tuple[list[int], bool]:
        """The ids of an input, at most ``limit``, and whether the input was cut."""
        ...

    def encode_target(self, text: str) -> list[int]:
        """The ids of an output, including the end token."""
        ...

    def decode(self, ids: Sequence[int]) -> str:
        """The text of an output, up to its end token."""
        ...
