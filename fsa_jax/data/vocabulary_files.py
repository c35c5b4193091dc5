"""Finds the SentencePiece model of the vocabulary. Imports no TensorFlow.

The places are searched in this order: the path in ``FSA_VOCAB`` (any SentencePiece model), ``t5_vocab/spiece.model`` in
the data directory, and google-t5/t5-base on the Hugging Face Hub. A file from the last two places must be T5's model;
its SHA-256 is checked.
"""

from __future__ import annotations

import hashlib
import os
import sys
from pathlib import Path

from fsa_jax.errors import VocabularyError
from fsa_jax.paths import DATA_DIR_VARIABLE, data_dir

VOCABULARY_VARIABLE = "FSA_VOCAB"
HUB_REPOSITORY = "google-t5/t5-base"
T5_SHA256 = "d60acb128cf7b7f2536e8f38a5b18a05535c9e14c7a355904270e15b0945ea86"
"""SHA-256 of the SentencePiece model of T5 v1.0, v1.1 and Flan-T5."""
ROW_PADDING = 128
"""The number of rows of T5's embedding is a multiple of this. A vocabulary that leaves this many rows unused belongs to
another model."""


def configured_path() -> Path | None:
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


def find() -> Path:
    """The SentencePiece model to use. If this machine has none, it is downloaded to the Hub's cache.

    Raises:
      VocabularyError: ``FSA_VOCAB`` is not the path of a file, the file is not T5's model, or the download failed.
    """
    path = configured_path()
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
