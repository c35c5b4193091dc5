"""``fsa push``: uploads a finished output to the Hugging Face Hub."""

from __future__ import annotations

from pathlib import Path


def command(directory: Path, repository: str, private: bool = True) -> None:
    """Uploads an exported student or a corpus, as it is, to the Hugging Face Hub.

    Only the files that the command wrote are uploaded, in one commit. The login is that of the Hub's own client: hf
    auth login, or HF_TOKEN.

    Args:
      directory: output of fsa export-hf or fsa export-ct2, or DATA_DIR/sentiment_corpus of fsa corpus.
      repository: OWNER/NAME on the Hub. It is created if it does not exist: a dataset for a corpus, otherwise a model.
      private: whether the repository is created as private.

    Example:
      fsa push served me/my-student
      fsa push data/corpus/sentiment_corpus me/my-reviews --no-private
    """
    from fsa_jax.serving.push import push_to_hub

    print(f"pushed: {push_to_hub(directory, repository, private=private)}")
