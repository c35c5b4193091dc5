"""Text to a student's token ids and back, without TensorFlow."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

from fsa_base.errors import VocabularyError

NEWLINE_TOKEN = "[NL]"
EXTRA_IDS = 100


class Tokenization(Protocol):
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


class T5Tokenization:
    """T5's SentencePiece model, 100 extra ids, and after them the newline token of the released students.

    Args:
      model: SentencePiece file.
    """

    decoder_only = False

    def __init__(self, model: Path) -> None:
        import sentencepiece

        self._pieces: Any = sentencepiece.SentencePieceProcessor()
        try:
            self._pieces.Load(str(model))
        except (OSError, RuntimeError) as error:
            raise VocabularyError(
                model, expected="a SentencePiece model", found=str(error), fix="give a SentencePiece .model file"
            ) from error
        self.model = model
        self.piece_count: int = self._pieces.GetPieceSize()
        self.newline_id = self.piece_count + EXTRA_IDS
        self.size = self.newline_id + 1
        self.end_ids = (self._pieces.eos_id(),)

    def tokens(self) -> list[str]:
        """The text of every id: pieces, extra ids (the highest first, as T5 has them), the newline.

        Raises:
          VocabularyError: a piece is not UTF-8.
        """
        try:
            pieces = [self._pieces.IdToPiece(i) for i in range(self.piece_count)]
        except UnicodeDecodeError as error:
            raise VocabularyError(
                self.model, expected="pieces in UTF-8", found=str(error), fix="copy or export the file again"
            ) from error
        return [*pieces, *(f"<extra_id_{i}>" for i in reversed(range(EXTRA_IDS))), NEWLINE_TOKEN]

    def _encode(self, text: str) -> list[int]:
        ids: list[int] = []
        for i, line in enumerate(text.split("\n")):
            ids += ([self.newline_id] if i else []) + self._pieces.EncodeAsIds(line)
        return ids

    def encode_input(self, text: str, limit: int) -> tuple[list[int], bool]:
        """Ids with the end token; cut before it."""
        ids = self._encode(text)
        return [*ids[: limit - 1], *self.end_ids], len(ids) > limit - 1

    def encode_target(self, text: str) -> list[int]:
        """Ids with the end token."""
        return [*self._encode(text), *self.end_ids]

    def decode(self, ids: Sequence[int]) -> str:
        """Text up to the end token; padding and extra ids are left out."""
        lines: list[list[int]] = [[]]
        for token in ids:
            if token in self.end_ids:
                break
            if token == self.newline_id:
                lines.append([])
            elif 0 < token < self.piece_count:
                lines[-1].append(int(token))
        return "\n".join(self._pieces.DecodeIds(line) for line in lines)


class ChatTokenization:
    """A decoder-only student's own tokenizer and chat template: the review is the user's turn, the output the answer.

    Args:
      directory: with the tokenizer's files.
      instruction: what the user's turn says before the review.
    """

    decoder_only = True

    def __init__(self, directory: Path, instruction: str = "") -> None:
        from fsa_jax.tokenizers.chat_template import ChatTemplate

        self.template = ChatTemplate(directory, instruction)
        self.end_ids = self.template.end_ids

    def encode_input(self, text: str, limit: int) -> tuple[list[int], bool]:
        """Ids of the turns before the answer; a long review is cut, the turns around it stay whole."""
        return self.template.prompt(text, limit)

    def encode_target(self, text: str) -> list[int]:
        """Ids of an answer with the token that ends it."""
        return self.template.response(text)

    def decode(self, ids: Sequence[int]) -> str:
        """Text up to the end of the answer."""
        return self.template.decode(ids)
