"""Where a Hugging Face model comes from: a local directory, or the hub at one commit."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fsa_base import untrusted_json
from fsa_base.errors import CheckpointError, MissingDataError, SettingError

CONFIG = "config.json"
HF_FILES = "hf"
"""Where ``fsa import-hf`` puts configuration and tokenizer, beside the checkpoint."""
STUDENT_VARIABLE = "FSA_STUDENT"
TOKENIZER_FILES = (
    "spiece.model",
    "tokenizer.model",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "merges.txt",
    "chat_template.jinja",
)
"""Files of a tokenizer, whichever of them a model has."""
SMALL_FILES = (CONFIG, "generation_config.json", *TOKENIZER_FILES)
_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")
_COMMIT = re.compile(r"[0-9a-f]{40}")
_CONFIG_BYTES = 1 << 24


@dataclass(frozen=True)
class Source:
    """A model's files on this machine, and what they are called: ``revision`` is a commit of the hub, None locally."""

    directory: Path
    name: str
    revision: str | None


def find_source(name: str, revision: str | None) -> Source:
    """Finds a model, downloading it where it is the hub's.

    Args:
      name: a directory, or a hub id such as ``google-t5/t5-base``.
      revision: commit, branch or tag of the hub; the files are fetched at the commit that it names now.

    Raises:
      MissingDataError: neither a directory nor a model that the hub gives out.
      CheckpointError: the hub has no safetensors of it.
    """
    if Path(name).is_dir():
        return Source(Path(name), str(Path(name).resolve()), None)
    if not _HUB_ID.fullmatch(name):
        raise MissingDataError(
            name, expected="a directory or a hub id OWNER/NAME", found="neither", fix="check the spelling"
        )
    return _download(name, revision or "main")


def _download(name: str, revision: str) -> Source:
    import httpx2
    from huggingface_hub import HfApi, snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError, OfflineModeIsEnabled

    weights = ["*.safetensors", "*.safetensors.index.json"]
    try:
        if _COMMIT.fullmatch(revision):
            commit = revision
        else:
            info = HfApi().model_info(name, revision=revision)
            commit = str(info.sha)
            _require_safetensors(name, revision, [file.rfilename for file in info.siblings or []])
        directory = Path(snapshot_download(name, revision=commit, allow_patterns=[*weights, *SMALL_FILES]))
    except (HfHubHTTPError, LocalEntryNotFoundError, OfflineModeIsEnabled, httpx2.HTTPError, OSError) as error:
        raise MissingDataError(
            f"hub model {name} at {revision}",
            expected="a model that can be downloaded",
            found=f"{type(error).__name__}: {(str(error).strip().splitlines() or [''])[0]}",
            fix="check the id, the revision and the network; for a gated model: hf auth login",
        ) from error
    return Source(directory, name, commit)


def _require_safetensors(name: str, revision: str, files: list[str]) -> None:
    if not any(file.endswith(".safetensors") for file in files):
        raise CheckpointError(
            f"hub model {name} at {revision}",
            expected="safetensors weights",
            found="only " + ", ".join(file for file in files if file.endswith((".bin", ".h5", ".msgpack", ".pt"))),
            fix="pickles can run code and are not read; take a revision with safetensors (the hub's converter offers "
            "one as refs/pr/<n>), or convert it where you trust it",
        )


def require_inside(directory: Path, name: str) -> None:
    """Checks that a file of a model directory is in it, and no link to somewhere else.

    What is imported may be published later. The hub's own cache links each file to ``blobs``, which is allowed.

    Raises:
      CheckpointError: it leads out of the directory.
    """
    file = directory / name
    if not file.is_symlink():
        return
    root, target = directory.resolve(), file.resolve()
    if not target.is_relative_to(root) and target.parent != root.parent.parent / "blobs":
        raise CheckpointError(
            file,
            expected="a file of the model's directory",
            found=f"a link to {target}, outside of it",
            fix="copy the file there in place of the link",
        )


def read_config(directory: Path) -> dict[str, Any]:
    """config.json of a model directory.

    Raises:
      MissingDataError: there is none.
      CheckpointError: it is no JSON object.
    """
    file = directory / CONFIG
    if not file.is_file():
        raise MissingDataError(file, expected="a model's config.json", found="nothing", fix="download the whole model")
    if file.stat().st_size > _CONFIG_BYTES:
        found = f"{file.stat().st_size:,} bytes"
        raise CheckpointError(file, expected="a model's config.json", found=found, fix="download it again")
    try:
        content = untrusted_json.parse(file.read_bytes())
    except untrusted_json.UntrustedJsonError as error:
        raise CheckpointError(file, expected="JSON", found=str(error), fix="download the file again") from error
    if not isinstance(content, dict):
        raise CheckpointError(file, expected="a JSON object", found=type(content).__name__, fix="download it again")
    return content


def student_directory(directory: str | Path | None = None) -> Path:
    """Configuration and tokenizer of the imported model that training begins with: ``directory`` or ``$FSA_STUDENT``.

    Raises:
      SettingError: neither names what ``fsa import-hf`` wrote.
    """
    configured = str(directory or os.environ.get(STUDENT_VARIABLE, ""))
    for candidate in (Path(configured) / HF_FILES, Path(configured)):
        if configured and (candidate / CONFIG).is_file():
            return candidate
    raise SettingError(
        f"{STUDENT_VARIABLE}={configured}",
        expected="the directory of an imported decoder-only model",
        found="nothing" if not configured else "no config.json there",
        fix=f"fsa import-hf Qwen/Qwen2.5-0.5B-Instruct weights/qwen, then {STUDENT_VARIABLE}=weights/qwen",
    )
