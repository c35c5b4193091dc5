"""Uploads an exported student to the Hugging Face Hub."""

from __future__ import annotations

from pathlib import Path

from fsa_base.errors import CheckpointError


def push_to_hub(directory: Path, repository: str, *, private: bool) -> str:
    """Uploads a directory in one commit; returns the URL of the commit.

    Raises:
      CheckpointError: the Hub refuses the upload or cannot be reached. The directory is unchanged.
    """
    import httpx2
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalTokenNotFoundError

    try:
        api = HfApi()
        api.create_repo(repository, private=private, exist_ok=True)
        commit = api.upload_folder(
            repo_id=repository, folder_path=directory, commit_message="A student exported by fsa_jax"
        )
        return str(commit.commit_url)
    except (HfHubHTTPError, HFValidationError, LocalTokenNotFoundError, httpx2.HTTPError, OSError) as error:
        raise CheckpointError(
            f"hub repository {repository}",
            expected="a repository that this machine may write to",
            found=f"{type(error).__name__}: {(str(error).strip().splitlines() or [''])[0]}",
            fix=f"hf auth login, then: hf upload {repository} {directory}",
        ) from error
