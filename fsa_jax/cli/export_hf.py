"""``fsa export-hf``: a student as a Hugging Face model."""

from __future__ import annotations

from pathlib import Path
from typing import Literal


def command(
    checkpoint: Path,
    out: Path,
    dtype: Literal["float32", "float16", "bfloat16"] = "float32",
    base: Path | None = None,
    vocabulary: Path | None = None,
    name: str | None = None,
    data: str = "not said",
    teacher: str = "not said",
    recipe: str = "not said",
    license: str = "apache-2.0",
    sentences: Path | None = None,
    check_count: int = 200,
    tolerance: float | None = None,
    push: str | None = None,
    private: bool = True,
    overwrite: bool = False,
) -> None:
    """Writes config, safetensors, tokenizer and model card, after PyTorch has run the result against the JAX student.

    Args:
      checkpoint: a checkpoint, MODEL_DIR@best or MODEL_DIR@newest, or what fsa import-hf wrote.
      out: directory to write.
      dtype: of the weights.
      base: for a trained decoder-only student, what fsa import-hf wrote of the model that training began with.
      vocabulary: SentencePiece model of a T5, where it is not beside the weights.
      name: of the model, for its card; by default the directory's.
      data: what it was trained on, for its card.
      teacher: whose text it was taught with, for its card.
      recipe: how it was trained, for its card; for example the gin file.
      license: of the weights, for its card.
      sentences: to check with (.jsonl, .csv, .parquet, .txt); by default some 200 of our own.
      check_count: how many of them. Of the answers, 95 in 100 must be the same where the student answers pairs, 97 in
        100 tokens where it writes text, and all of them in float32.
      tolerance: mean difference of a token's log-probability that is accepted besides; it does not loosen what must be
        the same. By default 0.1 in bfloat16, 0.01 in float16 and 0.001 in float32.
      push: hub id to upload to when all is well.
      private: whether the hub's repository is created private.
      overwrite: replace an earlier export, or discard the unfinished one of other inputs or settings.
    """
    from fsa_base import runs
    from fsa_jax.serving.export_check import check_sentences
    from fsa_jax.serving.export_hf import Check, export_hf
    from fsa_jax.serving.model_card import Card
    from fsa_jax.serving.student import load_student

    checkpoint = runs.resolve(checkpoint)
    texts, source = check_sentences(sentences, check_count)
    student = load_student(checkpoint, base=base, vocabulary=vocabulary)
    scores = runs.scores_of(student.path)
    card = Card(name or out.name, data=data, teacher=teacher, recipe=recipe, license=license, scores=scores)
    agreement = export_hf(
        student, out, dtype=dtype, check=Check(texts, source, tolerance), card=card, overwrite=overwrite
    )
    print(f"checked on {source}: {agreement}")
    print(f"written: {out}")
    if push:
        from fsa_jax.serving.push import push_to_hub

        print(f"pushed: {push_to_hub(out, push, private=private)}")
