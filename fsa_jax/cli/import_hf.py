"""``fsa import-hf``: converts a Hugging Face model to a T5X checkpoint."""

from __future__ import annotations

from pathlib import Path
from typing import Literal


def command(
    source: str,
    out: Path,
    revision: str | None = None,
    dtype: Literal["float32", "bfloat16"] = "float32",
    scan_layers: bool = False,
    vocabulary: Path | None = None,
    overwrite: bool = False,
) -> None:
    """Imports a T5, Flan-T5, Llama-3.2, Qwen2.5 or Qwen3 model as a checkpoint from which both engines can start.

    Args:
      source: a directory with safetensors, or the id of a model on the Hub such as google-t5/t5-base.
      out: output directory: checkpoint_0, hf/ (configuration and tokenizer) and import.json.
      revision: commit, branch or tag on the Hub; it is resolved to a commit, which is recorded in import.json.
      dtype: dtype of the checkpoint's parameters.
      scan_layers: whether to stack the layers, for models that are trained with scan_layers.
      vocabulary: SentencePiece model of a T5 model whose vocabulary is not T5's own.
      overwrite: whether to replace an earlier import, or the unfinished one of other inputs or settings.

    Example:
      fsa import-hf google-t5/t5-base weights/t5-base
    """
    from fsa_jax.weights.import_model import import_model

    record = import_model(
        source,
        out,
        revision=revision,
        dtype=dtype,
        scan_layers=scan_layers,
        vocabulary=vocabulary,
        overwrite=overwrite,
    )
    at = f" at {record.revision}" if record.revision else ""
    print(f"{record.source}{at}: {record.family}, {record.parameters:,} parameters in {record.dtype}")
    print(f"the SHA-256 of the {len(record.sha256)} source files are in {out / 'import.json'}")
    print(f"written: {out / 'checkpoint_0'}")
    print(f"to train from it: --gin.INITIAL_CHECKPOINT_PATH=\"'{out / 'checkpoint_0'}'\"")
