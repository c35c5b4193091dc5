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
    name: str | None = None,
    data: str | None = None,
    teacher: str | None = None,
    recipe: str | None = None,
    license: str | None = None,
    datasets: list[str] | None = None,
    corpus: Path | None = None,
    evaluations: list[Path] | None = None,
    sentences: Path | None = None,
    check_count: int = 200,
    tolerance: float | None = None,
    push: str | None = None,
    private: bool = True,
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
      name: name of the model for its card; by default the name of the repository or directory.
      data: training data, for the model card, in place of what is found.
      teacher: teacher whose text the student was trained on, for the model card, in place of what is found.
      recipe: training recipe, for the model card, in place of what is found; for example the gin file.
      license: license of the weights, for the model card; by default apache-2.0 for T5, and none for other families.
      datasets: ids on the Hub of the training data, for the model card.
      corpus: corpus of the distillation, for the model card: DATA_DIR/sentiment_corpus of fsa corpus, or files in the
        released layout; by default the ones in the data directory of fsa train, or else in the present one, if they are
        older than the checkpoint.
      evaluations: output directories of t5x.eval whose scores of this checkpoint the model card gets, besides those in
        the run's MODEL_DIR.
      sentences: file with sentences for the comparison (.jsonl, .csv, .parquet, .txt); by default about 200 sentences
        that come with fsa_jax.
      check_count: largest number of sentences. In float32 all answers must be the same. Otherwise 95 % of the answers
        must be the same if the student writes pairs, or 97 % of the tokens if it writes text.
      tolerance: largest accepted mean difference of a token's log-probability, an additional condition. By default 0.2
        in int8, 0.1 in bfloat16, 0.05 in int16, 0.01 in float16 and 0.001 in float32.
      push: id of a repository on the Hub to upload to after the comparison; fsa push does this later.
      private: whether the repository on the Hub is created as private.
      overwrite: whether to replace an earlier export, or the unfinished one of other inputs or settings.

    Example:
      fsa export-ct2 runs/finetune_base@best served --quantization int8
    """
    from fsa_base import runs
    from fsa_jax.serving.export_check import check_sentences
    from fsa_jax.serving.export_ct2 import export_ct2
    from fsa_jax.serving.export_hf import Check
    from fsa_jax.serving.model_card import Card
    from fsa_jax.serving.push import push_to_hub, require_name
    from fsa_jax.serving.student import load_student
    from fsa_jax.serving.training_record import read_record

    if push:
        require_name(push)
    checkpoint = runs.resolve(checkpoint)
    texts, source = check_sentences(sentences, check_count)
    student = load_student(checkpoint, base=base, vocabulary=vocabulary, instruction=instruction)
    card = Card(
        name or (push or out.absolute().name).rpartition("/")[2],
        data=data,
        teacher=teacher,
        recipe=recipe,
        license=license,
        datasets=tuple(datasets or ()),
        repository=push,
        folder=out.absolute().name,
        record=read_record(student.path, corpus=corpus, evaluations=evaluations or (), hf_files=student.hf_files),
    )
    agreement = export_ct2(
        student, out, quantization=quantization, check=Check(texts, source, tolerance), card=card, overwrite=overwrite
    )
    print(f"checked on {source}: {agreement}")
    print(f"written: {out}")
    if push:
        print(f"pushed: {push_to_hub(out, push, private=private)}")
