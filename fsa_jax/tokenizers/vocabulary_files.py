"""Where the SentencePiece model of the vocabulary lies; imports no TensorFlow.

``FSA_VOCAB`` names any SentencePiece model; else ``t5_vocab/spiece.model`` in the data directory; else the hub's
google-t5/t5-base is asked for it. The last two must be T5's own, by their sha256.
"""

from __future__ import annotations

import hashlib
import os
import sys
from pathlib import Path

from fsa_base.errors import VocabularyError
from fsa_jax.common.paths import DATA_DIR_VARIABLE, data_dir

VOCABULARY_VARIABLE = "FSA_VOCAB"
HUB_REPOSITORY = "google-t5/t5-base"
T5_SHA256 = "d60acb128cf7b7f2536e8f38a5b18a05535c9e14c7a355904270e15b0945ea86"
"""Of the SentencePiece model of T5 v1.0, v1.1 and Flan-T5."""
ROW_PADDING = 128
"""Rows of T5's embedding are a multiple of it; a vocabulary that leaves as many unused is another model's."""


def configured_path() -> Path | None:
    """The SentencePiece model that this machine has: ``$FSA_VOCAB``, else the data directory's; None where neither is.

    Raises:
      VocabularyError: ``FSA_VOCAB`` names no file.
    """
    configured = os.environ.get(VOCABULARY_VARIABLE)
    if configured:
        path = Path(configured)
        if not path.is_file():
            raise VocabularyError(
                f"{VOCABULARY_VARIABLE}={configured}",
                expected="the path of a SentencePiece model",
                found="a directory" if path.is_dir() else "nothing there",
                fix=f"correct it, or unset it to use T5's vocabulary: unset {VOCABULARY_VARIABLE}",
            )
        return path
    path = data_dir() / "t5_vocab" / "spiece.model"
    return path if path.is_file() else None


def find() -> Path:
    """The SentencePiece model to use, downloaded to the hub's cache where this machine has none.

    Raises:
      VocabularyError: ``FSA_VOCAB`` names no file, T5's file is not T5's, or it cannot be downloaded.
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
            fix=f"delete it to download it again, or set {VOCABULARY_VARIABLE} to use another vocabulary on purpose",
        )
    return path


def _download() -> Path:
    from huggingface_hub import hf_hub_download, try_to_load_from_cache

    cached = try_to_load_from_cache(HUB_REPOSITORY, "spiece.model")
    if isinstance(cached, str):
        return Path(cached)
    # The hub's client tries again for half a minute where there is no network, and says nothing meanwhile.
    print(f"asking the Hugging Face hub for T5's vocabulary ({HUB_REPOSITORY})", file=sys.stderr, flush=True)
    try:
        return Path(hf_hub_download(HUB_REPOSITORY, "spiece.model"))
    except Exception as error:  # The hub's client raises its own, requests' and httpx' errors, and changes which.
        raise VocabularyError(
            f"{HUB_REPOSITORY} on the Hugging Face hub",
            expected="its file spiece.model",
            found=f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else 'no reason given'}",
            fix=f"put T5's spiece.model under ${DATA_DIR_VARIABLE}/t5_vocab, or set {VOCABULARY_VARIABLE} to its path",
        ) from error
