"""Converts text to a student's token ids and back, without TensorFlow."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

from fsa_jax.errors import VocabularyError

NEWLINE_TOKEN = "[NL]"
EXTRA_IDS = 100


class Tokenization(Protocol):
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


class T5Tokenization:
    """T5's SentencePiece model, followed by 100 extra ids and the newline token of the released students.

    Args:
      model: path of the SentencePiece file.
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
        """The text of every id: pieces, extra ids (the highest first, as in T5), the newline.

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
        """The ids with the end token. A long text is cut before the end token."""
        ids = self._encode(text)
        return [*ids[: limit - 1], *self.end_ids], len(ids) > limit - 1

    def encode_target(self, text: str) -> list[int]:
        """The ids with the end token."""
        return [*self._encode(text), *self.end_ids]

    def decode(self, ids: Sequence[int]) -> str:
        """The text up to the end token, without padding and extra ids."""
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
    """The tokenizer and chat template of a decoder-only student: the review is the user's turn, the output the answer.

    Args:
      directory: directory with the tokenizer's files.
      instruction: text before the review in the user's turn.
    """

    decoder_only = True

    def __init__(self, directory: Path, instruction: str = "") -> None:
        from fsa_jax.data.chat_template import ChatTemplate

        self.template = ChatTemplate(directory, instruction)
        self.end_ids = self.template.end_ids

    def encode_input(self, text: str, limit: int) -> tuple[list[int], bool]:
        """The ids of the turns before the answer. A long review is cut, but the template around it stays complete."""
        return self.template.prompt(text, limit)

    def encode_target(self, text: str) -> list[int]:
        """The ids of an answer, with the token that ends it."""
        return self.template.response(text)

    def decode(self, ids: Sequence[int]) -> str:
        """The text up to the end of the answer."""
        return self.template.decode(ids)
