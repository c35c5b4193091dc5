"""Checks that a model's vocabulary is the one that training and serving will use."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fsa_base import untrusted_json
from fsa_base.errors import VocabularyError
from fsa_jax.tokenizers.t5 import EXTRA_IDS, PIECES, T5_SHA256, T5Tokenizer


def check_t5(source: Path, rows: int, vocabulary: Path | None) -> None:
    """Checks that the vocabulary of a T5 model is ``vocabulary`` (T5's own by default) and fits its embedding.

    Raises:
      VocabularyError: the model has another vocabulary, or more ids than rows in its embedding.
    """
    expected = "T5's own vocabulary" if vocabulary is None else str(vocabulary)
    fix = "give the vocabulary that the model was trained with: --vocabulary FILE (and train with FSA_VOCAB=FILE)"
    file = source / "spiece.model"
    if file.is_file():
        found = hashlib.sha256(file.read_bytes()).hexdigest()
        wanted = T5_SHA256 if vocabulary is None else hashlib.sha256(vocabulary.read_bytes()).hexdigest()
        if found != wanted:
            raise VocabularyError(
                file, expected=f"{expected} (sha256 {wanted[:12]})", found=f"another (sha256 {found[:12]})", fix=fix
            )
    pieces = _pieces(vocabulary or file) if vocabulary or file.is_file() else None
    listed = _listed_pieces(source / "tokenizer.json")
    count = len(pieces) if pieces else PIECES
    if listed is not None:
        differ = listed[:count] != pieces if pieces else len(listed) < count
        if differ:
            raise VocabularyError(source / "tokenizer.json", expected=expected, found="other pieces", fix=fix)
    if count + EXTRA_IDS > rows:
        raise VocabularyError(
            source / "config.json",
            expected=f"at least {count + EXTRA_IDS} embedding rows, one for each piece and extra id of {expected}",
            found=f"{rows}",
            fix=fix,
        )


def check_decoder(source: Path, rows: int) -> None:
    """Checks that a decoder-only model has a tokenizer, and an embedding row for each of the tokenizer's ids.

    Raises:
      VocabularyError: there is no tokenizer, or it has an id without an embedding row.
    """
    file = source / "tokenizer.json"
    ids = _token_ids(file)
    if ids is None:
        raise VocabularyError(
            file, expected="the model's tokenizer", found="nothing", fix="download the model's tokenizer files too"
        )
    if max(ids) >= rows:
        raise VocabularyError(
            file,
            expected=f"ids below {rows}, the embedding's rows",
            found=f"id {max(ids)}",
            fix="use the tokenizer that belongs to the weights",
        )


def _tokenizer_json(file: Path) -> Mapping[str, Any] | None:
    if not file.is_file():
        return None
    try:
        content = untrusted_json.parse(file.read_bytes())
        vocab, added = content["model"]["vocab"], content.get("added_tokens", [])
        if isinstance(vocab, Mapping):
            ids = list(vocab.values())
        else:
            ids = list(range(len(vocab)))
            if not all(isinstance(entry, list) and entry and isinstance(entry[0], str) for entry in vocab):
                raise ValueError("a vocabulary that is not a list of pieces")
        ids += [token["id"] for token in added]
        if not ids or not all(type(token) is int and token >= 0 for token in ids):
            raise ValueError("ids that are not integers")
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise VocabularyError(
            file,
            expected="a tokenizer of the tokenizers library",
            found=str(error)[:200],
            fix="download the file again",
        ) from error
    return content


def _listed_pieces(file: Path) -> list[str] | None:
    content = _tokenizer_json(file)
    vocab = content["model"]["vocab"] if content else None
    return [entry[0] for entry in vocab] if isinstance(vocab, list) else None


def _token_ids(file: Path) -> list[int] | None:
    content = _tokenizer_json(file)
    if content is None:
        return None
    vocab = content["model"]["vocab"]
    ids = list(vocab.values()) if isinstance(vocab, Mapping) else list(range(len(vocab)))
    return ids + [token["id"] for token in content.get("added_tokens", [])]


def _pieces(file: Path) -> list[str]:
    tokenizer = T5Tokenizer(file)
    return tokenizer.tokens()[: tokenizer.piece_count]
