"""Repositories of the Hugging Face Hub: their names, and their files at one commit.

The Hub's own client downloads into its own cache, and uses the login of ``hf auth login`` or ``HF_TOKEN``. Only
weights, configuration and tokenizer are downloaded, never code.
"""

from __future__ import annotations

import re
import sys
from dataclasses import dataclass
from pathlib import Path

from fsa_base.errors import CheckpointError, MissingDataError, SettingError
from fsa_jax.weights.hf_files import SMALL_FILES, TOKENIZER_FILES

_NAME = re.compile(r"(?P<scheme>hf:/{1,2})?(?P<name>[\w.-]+/[\w.-]+)(?:@(?P<revision>\w[\w./-]*))?")
"""``pathlib`` makes ``hf:/me/student`` of ``hf://me/student``, so one slash is accepted too."""
_COMMIT = re.compile(r"[0-9a-f]{40}")
_HUGGING_FACE = ("*.safetensors", "*.safetensors.index.json", *SMALL_FILES)
_CTRANSLATE2 = (
    *("model.bin", "*vocabulary.json", "*vocabulary.txt", "student.json"),
    *(f"tokenizer/{name}" for name in TOKENIZER_FILES),
)
_PICKLES = (".bin", ".h5", ".msgpack", ".pt")


@dataclass(frozen=True)
class Source:
    """The files of a model on this machine, and its name; ``revision`` is a commit on the Hub, None for a directory."""

    directory: Path
    name: str
    revision: str | None

    @property
    def address(self) -> str:
        """The name with the commit, by which :func:`fetch` finds the same files again."""
        return f"hf://{self.name}@{self.revision}" if self.revision else self.name


def is_repository(name: str) -> bool:
    """Whether a text is ``OWNER/NAME`` with characters that the Hub accepts; nobody asks whether it exists."""
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import validate_repo_id

    try:
        validate_repo_id(name)
    except HFValidationError:
        return False
    return "/" in name


def is_name(text: str) -> bool:
    """Whether a text can be the name of a repository: ``OWNER/NAME``, ``OWNER/NAME@REVISION`` or ``hf://OWNER/NAME``."""
    found = _NAME.fullmatch(text)
    return found is not None and is_repository(found["name"])


def find_source(name: str, revision: str | None = None) -> Source:
    """Finds a model: an existing directory, otherwise a repository on the Hub (:func:`fetch`)."""
    if Path(name).is_dir():
        return Source(Path(name), str(Path(name).resolve()), None)
    return fetch(name, revision)


def fetch(name: str, revision: str | None = None) -> Source:
    """Downloads a model, or finds it in the cache of the Hub's client. All files are of one commit.

    Without a connection, or with ``HF_HUB_OFFLINE=1``, the newest commit in the cache is used. A commit that is
    completely in the cache is used without asking the Hub.

    Args:
      name: ``OWNER/NAME``, ``OWNER/NAME@REVISION``, or one of them after ``hf://``.
      revision: commit, branch or tag, if ``name`` has none; by default ``main``.

    Raises:
      MissingDataError: there is no such repository, or it cannot be downloaded.
      CheckpointError: the repository has no weights that can be read.
      SettingError: there are two different revisions.
    """
    found = _NAME.fullmatch(name)
    if found is None:
        raise MissingDataError(
            name, expected="a directory or a Hub id OWNER/NAME", found="neither", fix="check the spelling"
        )
    if revision and found["revision"] and revision != found["revision"]:
        raise SettingError("--revision", expected=found["revision"], found=revision, fix="give one revision")
    return _download(found["name"], revision or found["revision"] or "main", is_address=bool(found["scheme"]))


def _download(name: str, revision: str, *, is_address: bool) -> Source:
    import httpx2
    from huggingface_hub import HfApi, constants, snapshot_download
    from huggingface_hub.errors import (
        GatedRepoError,
        HfHubHTTPError,
        HFValidationError,
        LocalEntryNotFoundError,
        OfflineModeIsEnabled,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    if not (constants.HF_HUB_OFFLINE or _COMMIT.fullmatch(revision)):
        # Without a network the Hub's client retries silently for half a minute, so the user is told first.
        print(f"asking the Hugging Face Hub for {name} at {revision}", file=sys.stderr, flush=True)
    folder = "" if is_address else "no such folder, and "
    missing = MissingDataError(
        name if revision == "main" else f"{name}@{revision}",
        expected="a repository on the Hub" if is_address else "a folder, or a repository on the Hub",
        found=f"{folder}no repository of this name on the Hub",
        fix="check the spelling; if the repository is private or gated: hf auth login",
    )
    try:
        directory = Path(snapshot_download(name, revision=revision, allow_patterns=[*_HUGGING_FACE, *_CTRANSLATE2]))
        if not any(directory.glob("*.safetensors")) and not (directory / "model.bin").is_file():
            raise _without_weights(name, revision, HfApi().list_repo_files(name, revision=directory.name))
    except RevisionNotFoundError as error:
        missing.found = f"{folder}no revision {revision} of the repository {name} on the Hub"
        raise missing from error
    except GatedRepoError as error:
        missing.found = f"{folder}a gated repository on the Hub, which this login may not read"
        missing.fix = f"ask for access on the page of {name}, then: hf auth login"
        raise missing from error
    except (RepositoryNotFoundError, HFValidationError) as error:
        raise missing from error
    # The client raises ValueError where a repository has a name that leads out of its folder.
    except (
        HfHubHTTPError,
        LocalEntryNotFoundError,
        OfflineModeIsEnabled,
        httpx2.HTTPError,
        OSError,
        ValueError,
    ) as error:
        missing.found = f"{folder}neither an answer of the Hub nor the files in its cache ({described(error)})"
        missing.fix = "check the spelling, the network and HF_HUB_OFFLINE; for a gated model: hf auth login"
        raise missing from error
    return Source(directory, name, directory.name)


def described(error: BaseException) -> str:
    """The type and the first line of an error of the Hub's client."""
    return f"{type(error).__name__}: {(str(error).strip().splitlines() or [''])[0]}"


def _without_weights(name: str, revision: str, files: list[str]) -> CheckpointError:
    pickles = ", ".join(file for file in files if file.endswith(_PICKLES))
    return CheckpointError(
        f"hub model {name} at {revision}",
        expected="safetensors weights, or an output of fsa export-ct2",
        found=f"only {pickles}" if pickles else f"none among its {len(files)} files",
        fix="pickles can run code and are not read; use a revision with safetensors (the Hub's converter offers one as "
        "refs/pr/<n>), or convert the model, if you trust it",
    )
