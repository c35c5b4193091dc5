"""``fsa export-ct2``: a student as a CTranslate2 model."""

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
    """Writes a CTranslate2 model for fast serving, after CTranslate2 has run it against the JAX student.

    Args:
      checkpoint: a checkpoint, MODEL_DIR@best or MODEL_DIR@newest, what fsa import-hf wrote, or a Hugging Face
        directory.
      out: directory to write.
      quantization: of the weights.
      base: for a trained decoder-only student, what fsa import-hf wrote of the model that training began with.
      vocabulary: SentencePiece model of a T5, where it is not beside the weights.
      instruction: of the user's turn, for a decoder-only student that was trained with one.
      sentences: to check with (.jsonl, .csv, .parquet, .txt); by default some 200 of our own.
      check_count: how many of them. Of the answers, 95 in 100 must be the same where the student answers pairs, 97 in
        100 tokens where it writes text, and all of them in float32.
      tolerance: mean difference of a token's log-probability that is accepted besides; it does not loosen what must be
        the same. By default 0.2 in int8, 0.1 in bfloat16, 0.05 in int16, 0.01 in float16 and 0.001 in float32.
      overwrite: replace an earlier export, or discard the unfinished one of other inputs or settings.
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
