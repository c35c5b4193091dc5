"""Converts a Hugging Face model to a T5X checkpoint from which both engines can start training."""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np

import fsa_jax
from fsa_base.checksums import file_digest
from fsa_base.errors import MissingDataError, SettingError
from fsa_jax.common.atomic_directory import only_files, written_aside
from fsa_jax.tokenizers.vocabulary_check import check_decoder, check_t5
from fsa_jax.weights.families import open_model
from fsa_jax.weights.hf_files import HF_FILES, INDEX_FILE, SMALL_FILES, require_inside
from fsa_jax.weights.hf_mapping import flatten
from fsa_jax.weights.hub import find_source
from fsa_jax.weights.weight_checkpoints import save_weights

RECORD = "import.json"
_FOREIGN = only_files("checkpoint_0/*", f"{HF_FILES}/*", RECORD, marks=[RECORD])
DTYPES: dict[str, Any] = {"float32": np.float32, "bfloat16": ml_dtypes.bfloat16}


@dataclass(frozen=True)
class Import:
    """The content of ``import.json``, which describes an imported model."""

    source: str
    revision: str | None
    family: str
    parameters: int
    embedding_rows: int
    """Number of rows of the source's embedding; the embedding in the checkpoint is padded."""
    dtype: str
    scan_layers: bool
    fsa_jax: str
    sha256: dict[str, str]
    """SHA-256 of the source's files that were read, by name."""


def import_model(
    source: str,
    out: Path,
    *,
    revision: str | None = None,
    dtype: str = "float32",
    scan_layers: bool = False,
    vocabulary: Path | None = None,
    overwrite: bool = False,
) -> Import:
    """Writes ``out`` with ``checkpoint_0``, ``hf/`` (unchanged configuration and tokenizer) and ``import.json``.

    Tensors are read, converted and written one at a time.

    Args:
      source: directory, or id of a model on the Hub.
      out: output directory. It must not exist or be empty; with ``overwrite`` it may be an earlier import.
      revision: branch, tag or commit on the Hub; it is resolved to a commit.
      dtype: dtype of the checkpoint's parameters, ``float32`` or ``bfloat16``.
      scan_layers: whether to stack layers, for models with ``scan_layers``.
      vocabulary: SentencePiece model that a T5 model must have, if it is not T5's own.
      overwrite: whether to replace an earlier import.

    Raises:
      FsaError: the source or ``out`` cannot be used. Then ``out`` is unchanged.
    """
    if dtype not in DTYPES:
        raise SettingError("--dtype", expected=" or ".join(DTYPES), found=repr(dtype), fix="--dtype float32")
    if vocabulary is not None and not vocabulary.is_file():
        raise MissingDataError(vocabulary, expected="a SentencePiece model", found="nothing", fix="check the path")
    settings = {
        "source": source,
        "revision": revision,
        "dtype": dtype,
        "scan_layers": scan_layers,
        "vocabulary": str(vocabulary),
    }
    inputs = [Path(source)] if vocabulary is None else [Path(source), vocabulary]
    with written_aside(
        out, command="fsa import-hf", settings=settings, foreign=_FOREIGN, inputs=inputs, overwrite=overwrite
    ) as partial:
        found = find_source(source, revision)
        model = open_model(found.directory)
        weights = {tensor.file.name for tensor in model.tensors.values()}
        files = [name for name in (*SMALL_FILES, INDEX_FILE, *weights) if (found.directory / name).is_file()]
        for name in files:
            require_inside(found.directory, name)
        if not model.family.decoder_only:
            check_t5(found.directory, model.rows, vocabulary)
        else:
            check_decoder(found.directory, model.rows)
        parameters = model.parameters(DTYPES[dtype], scan_layers=scan_layers)
        save_weights(partial, 0, parameters)
        (partial / HF_FILES).mkdir()
        for name in SMALL_FILES:
            if (found.directory / name).is_file():
                shutil.copyfile(found.directory / name, partial / HF_FILES / name)
        digests = {name: file_digest(found.directory / name) for name in sorted(files)}
        if vocabulary is not None:
            shutil.copyfile(vocabulary, partial / HF_FILES / "spiece.model")
        count = sum(int(np.prod(leaf.shape, dtype=np.int64)) for _, leaf in flatten(parameters))
        record = Import(
            source=found.name,
            revision=found.revision,
            family=str(model.content["model_type"]),
            parameters=count,
            embedding_rows=model.rows,
            dtype=dtype,
            scan_layers=scan_layers,
            fsa_jax=fsa_jax.__version__,
            sha256=digests,
        )
        (partial / RECORD).write_text(json.dumps(asdict(record), indent=2) + "\n")
    return record
