"""T5's tokenizer: a SentencePiece model, 100 extra ids and, after them, the newline token of the released students.

``FSA_VOCAB`` names the SentencePiece model. If it is not set, the model is ``t5_vocab/spiece.model`` in the data
directory or, if that is missing, the one of google-t5/t5-base on the hub. These two must be T5's own, by their sha256.
"""

from __future__ import annotations

import hashlib
import os
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from fsa_base.errors import VocabularyError
from fsa_jax.common.paths import DATA_DIR_VARIABLE, data_dir

EXTRA_IDS = 100
NEWLINE_TOKEN = "[NL]"
"""SentencePiece treats newlines as spaces; the released corpus and students write them as this added token."""
PIECES = 32_000
ROWS = 32_128
"""Rows of T5's embedding: 32,000 pieces, 100 extra ids and ``[NL]``, padded to a multiple of ROW_PADDING."""
VOCABULARY_VARIABLE = "FSA_VOCAB"
HUB_REPOSITORY = "google-t5/t5-base"
T5_SHA256 = "d60acb128cf7b7f2536e8f38a5b18a05535c9e14c7a355904270e15b0945ea86"
"""SHA-256 of the SentencePiece model of T5 v1.0, v1.1 and Flan-T5."""
ROW_PADDING = 128
"""The number of rows of T5's embedding is a multiple of this. A vocabulary that leaves this many rows unused belongs to
another model."""


def encode_lines(text: str, newline_id: int, encode: Callable[[str], list[int]]) -> list[int]:
    """Returns the ids of a text whose lines are encoded one by one, with ``newline_id`` between them.

    The released tokenizer does the same with the text between added tokens.
    """
    ids: list[int] = []
    for number, line in enumerate(text.split("\n")):
        ids += ([newline_id] if number else []) + encode(line)
    return ids


def decode_lines(ids: Iterable[int], newline_id: int, decode: Callable[[list[int]], str]) -> str:
    """Returns the text of ids that :func:`encode_lines` made."""
    lines: list[list[int]] = [[]]
    for token in ids:
        if token == newline_id:
            lines.append([])
        else:
            lines[-1].append(int(token))
    return "\n".join(map(decode, lines))


class T5Tokenizer:
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
        return encode_lines(text, self.newline_id, self._pieces.EncodeAsIds)

    def encode_input(self, text: str, limit: int) -> tuple[list[int], bool]:
        """The ids with the end token. A long text is cut before the end token."""
        ids = self._encode(text)
        return [*ids[: limit - 1], *self.end_ids], len(ids) > limit - 1

    def encode_target(self, text: str) -> list[int]:
        """The ids with the end token."""
        return [*self._encode(text), *self.end_ids]

    def decode(self, ids: Sequence[int]) -> str:
        """The text up to the end token, without padding and extra ids."""
        ends = [i for i, token in enumerate(ids) if token in self.end_ids]
        kept = [int(i) for i in (ids[: ends[0]] if ends else ids) if 0 < i < self.piece_count or i == self.newline_id]
        return decode_lines(kept, self.newline_id, self._pieces.DecodeIds)


def configured_vocabulary() -> Path | None:
    """The SentencePiece model on this machine, from ``$FSA_VOCAB`` or else from the data directory; None without one.

    Raises:
      VocabularyError: ``FSA_VOCAB`` is not the path of a file.
    """
    configured = os.environ.get(VOCABULARY_VARIABLE)
    if configured:
        path = Path(configured)
        if not path.is_file():
            raise VocabularyError(
                f"{VOCABULARY_VARIABLE}={configured}",
                expected="the path of a SentencePiece model",
                found="a directory" if path.is_dir() else "nothing there",
                fix=f"correct the path, or use T5's vocabulary: unset {VOCABULARY_VARIABLE}",
            )
        return path
    path = data_dir() / "t5_vocab" / "spiece.model"
    return path if path.is_file() else None


def find_vocabulary() -> Path:
    """The SentencePiece model to use. If this machine has none, it is downloaded to the Hub's cache.

    Raises:
      VocabularyError: ``FSA_VOCAB`` is not the path of a file, the file is not T5's model, or the download failed.
    """
    path = configured_vocabulary()
    if path is None:
        path = _download()
    elif os.environ.get(VOCABULARY_VARIABLE):
        return path
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    if digest != T5_SHA256:
        raise VocabularyError(
            path,
            expected=f"T5's SentencePiece model, sha256 {T5_SHA256}",
            found=f"sha256 {digest}",
            fix=f"delete it to download it again, or set {VOCABULARY_VARIABLE} to use another vocabulary",
        )
    return path


def _download() -> Path:
    from huggingface_hub import hf_hub_download, try_to_load_from_cache

    cached = try_to_load_from_cache(HUB_REPOSITORY, "spiece.model")
    if isinstance(cached, str):
        return Path(cached)
    # Without a network the Hub's client retries silently for half a minute, so the user is told first.
    print(f"asking the Hugging Face hub for T5's vocabulary ({HUB_REPOSITORY})", file=sys.stderr, flush=True)
    try:
        return Path(hf_hub_download(HUB_REPOSITORY, "spiece.model"))
    except Exception as error:  # The Hub's client raises its own, requests' or httpx's errors.
        raise VocabularyError(
            f"{HUB_REPOSITORY} on the Hugging Face hub",
            expected="its file spiece.model",
            found=f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else 'no reason given'}",
            fix=f"put T5's spiece.model under ${DATA_DIR_VARIABLE}/t5_vocab, or set {VOCABULARY_VARIABLE} to its path",
        ) from error
