"""``fsa export-ct2``: exports a student to a CTranslate2 model."""

from __future__ import annotations

from pathlib import Path
from typing import Literal


def command(
    checkpoint: Path,
    out: Path,
    quantization: Literal[
        "float32", "float16", "bfloat16", "int16", "int8", "int8_float32", "int8_float16", "int8_bfloat16"
    ] = "int8",
    base: Path | None = None,
    vocabulary: Path | None = None,
    instruction: str = "",
    sentences: Path | None = None,
    check_count: int = 200,
    tolerance: float | None = None,
    overwrite: bool = False,
) -> None:
    """Writes a CTranslate2 model for fast serving, after comparing its answers with those of the JAX student.

    Args:
      checkpoint: a checkpoint, MODEL_DIR@best or MODEL_DIR@newest, an output directory of fsa import-hf, or a Hugging
        Face directory.
      out: output directory.
      quantization: quantization of the weights.
      base: for a trained decoder-only student, the output directory of fsa import-hf from which training started.
      vocabulary: SentencePiece model of a T5 student, if it is not next to the weights.
      instruction: text before the review in the user's turn, for a decoder-only student that was trained with one.
      sentences: file with sentences for the comparison (.jsonl, .csv, .parquet, .txt); by default about 200 sentences
        that come with fsa_jax.
      check_count: largest number of sentences. In float32 all answers must be the same. Otherwise 95 % of the answers
        must be the same if the student writes pairs, or 97 % of the tokens if it writes text.
      tolerance: largest accepted mean difference of a token's log-probability, an additional condition. By default 0.2
        in int8, 0.1 in bfloat16, 0.05 in int16, 0.01 in float16 and 0.001 in float32.
      overwrite: whether to replace an earlier export, or the unfinished one of other inputs or settings.

    Example:
      fsa export-ct2 runs/finetune_base@best served --quantization int8
    """
    from fsa_base import runs
    from fsa_jax.serving.export_check import check_sentences
    from fsa_jax.serving.export_ct2 import export_ct2
    from fsa_jax.serving.export_hf import Check
    from fsa_jax.serving.student import load_student

    checkpoint = runs.resolve(checkpoint)
    texts, source = check_sentences(sentences, check_count)
    student = load_student(checkpoint, base=base, vocabulary=vocabulary, instruction=instruction)
    check = Check(texts, source, tolerance)
    agreement = export_ct2(student, out, quantization=quantization, check=check, overwrite=overwrite)
    print(f"checked on {source}: {agreement}")
    print(f"written: {out}")
