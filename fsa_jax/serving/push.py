"""Uploads finished outputs to the Hugging Face Hub: exported students and corpora.

The login is that of the Hub's own client (``hf auth login`` or ``HF_TOKEN``).
"""

from __future__ import annotations

import fnmatch
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from fsa_base import checksums
from fsa_base.checkpoint_files import checkpoint_steps, is_checkpoint
from fsa_base.errors import CheckpointError, SettingError
from fsa_jax.common import output_checksums
from fsa_jax.corpus import corpus_files
from fsa_jax.corpus.statistics import STATISTICS
from fsa_jax.serving import export_ct2, export_hf
from fsa_jax.weights.hub import described, is_repository

_EXPECTED = "a finished output of fsa export-hf, fsa export-ct2 or fsa corpus, without other files"


@dataclass(frozen=True)
class Output:
    """A finished output of a command.

    Attributes:
      kind: kind of repository on the Hub.
      title: description, for the message of the commit.
      files: names of its files, relative to its directory. Only these are uploaded.
      patterns: patterns of all names that the command writes. Other files of an earlier upload with such names are
        deleted from the repository.
    """

    kind: Literal["model", "dataset"]
    title: str
    files: tuple[str, ...]
    patterns: tuple[str, ...]


def require_name(repository: str) -> None:
    """Checks the name of a repository before a long work begins.

    Raises:
      SettingError: it is not OWNER/NAME, or has characters that the Hub does not accept.
    """
    if not is_repository(repository):
        raise SettingError(
            "name of the repository",
            expected="OWNER/NAME of letters, digits, single '-' and '.', and '_'; '-' and '.' are not first or last",
            found=repr(repository),
            fix="choose a name such as me/my-student",
        )


def finished_output(directory: Path) -> Output:
    """Recognises the output of ``fsa export-hf``, ``fsa export-ct2`` or ``fsa corpus``.

    Raises:
      SettingError: the directory is none of them, is unfinished, or has other files too.
      DataError: a file of the corpus is damaged.
    """
    if (directory / STATISTICS).is_file():
        is_listed = (directory / output_checksums.MARKER).is_file()
        problem = corpus_files.FOREIGN(directory) if is_listed else "a corpus without checksums, by an older fsa_jax"
        if problem is None:
            corpus_files.require_whole(directory)
            return Output("dataset", "A corpus of fsa_jax", _files(directory), corpus_files.PATTERNS)
    else:
        is_ct2 = (directory / export_ct2.DESCRIPTION).is_file()
        export = export_ct2 if is_ct2 else export_hf
        if not directory.exists():
            fix = "check the path; export a student first, with fsa export-hf or fsa export-ct2"
            raise SettingError(directory, expected=_EXPECTED, found="nothing", fix=fix)
        if checkpoint_steps(directory) or is_checkpoint(directory):
            fix = f"export it first: fsa export-hf {directory} OUT, or fsa export-ct2 {directory} OUT"
            raise SettingError(directory, expected=_EXPECTED, found="checkpoints of a run", fix=fix)
        problem = export.foreign(directory)
        if problem is None and not (directory / export_hf.CARD).is_file():
            problem = "an export without a model card, by an older fsa_jax"
        if problem is None:
            return Output("model", "A student exported by fsa_jax", _files(directory), export.PATTERNS)
    raise SettingError(
        directory,
        expected=_EXPECTED,
        found=problem,
        fix="remove other files; or run the command again, with --overwrite if its output exists",
    )


def _files(directory: Path) -> tuple[str, ...]:
    return tuple(sorted(checksums.files(directory)))


def _matches(name: str, pattern: str) -> bool:
    return name.count("/") == pattern.count("/") and fnmatch.fnmatchcase(name, pattern)


def push_to_hub(directory: Path, repository: str, *, private: bool) -> str:
    """Uploads a finished output in one commit; returns the URL of the commit.

    Args:
      directory: output directory of a command, see :func:`finished_output`.
      repository: OWNER/NAME on the Hub; it is created if it does not exist.
      private: whether the repository is created as private.

    Raises:
      FsaError: the name cannot be used, the directory is no finished output, or the Hub refuses the upload or cannot be
        reached. The directory is unchanged.
    """
    import httpx2
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi
    from huggingface_hub.errors import HfHubHTTPError, LocalTokenNotFoundError

    require_name(repository)
    output = finished_output(directory)
    try:
        api = HfApi()
        api.create_repo(repository, repo_type=output.kind, private=private, exist_ok=True)
        there = api.list_repo_files(repository, repo_type=output.kind)
        stale = [
            name
            for name in there
            if name not in output.files and any(_matches(name, pattern) for pattern in output.patterns)
        ]
        commit = api.create_commit(
            repository,
            [
                *(CommitOperationAdd(path_in_repo=name, path_or_fileobj=directory / name) for name in output.files),
                *(CommitOperationDelete(path_in_repo=name) for name in stale),
            ],
            commit_message=output.title,
            repo_type=output.kind,
        )
        return str(commit.commit_url)
    # The client raises ValueError where the Hub refuses the card.
    except (HfHubHTTPError, LocalTokenNotFoundError, httpx2.HTTPError, OSError, ValueError) as error:
        public = "" if private else " --private false"
        unreachable = isinstance(error, httpx2.TransportError | ConnectionError)
        first = "check the network and HF_HUB_OFFLINE" if unreachable else "hf auth login"
        raise CheckpointError(
            f"hub repository {repository}",
            expected="an answer of the Hub" if unreachable else "a repository that this machine may write to",
            found=described(error),
            fix=f"{first}, then: fsa push {directory} {repository}{public} (the local output is complete)",
        ) from error
