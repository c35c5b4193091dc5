"""``fsa predict``: writes predictions for a file of reviews."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Literal


def command(
    model: Path,
    input: Path,
    output: Path,
    task: Literal["atsa", "acsa", "analysis", "rewriting"] = "atsa",
    engine: Literal["jax", "ct2"] | None = None,
    batch_size: int = 32,
    beams: int = 1,
    max_input_length: int = 512,
    max_output_length: int | None = None,
    text_column: str = "text",
    id_column: str = "id",
    base: Path | None = None,
    vocabulary: Path | None = None,
    instruction: str = "",
    threads: int = 0,
    device: Literal["cpu", "cuda", "auto"] = "cpu",
    overwrite: bool = False,
) -> None:
    """Predicts opinions for every review of a file and writes them as JSON lines, in the order of the input.

    If a run was stopped, the same command continues it, with the checkpoint with which it was started. If the model,
    vocabulary, input, settings or version differ, the command is refused.

    Args:
      model: a checkpoint, MODEL_DIR@best or MODEL_DIR@newest of a run, an output directory of fsa import-hf or fsa
        export-ct2, a Hugging Face directory, or a repository on the Hub with one of the last two: OWNER/NAME,
        OWNER/NAME@REVISION or hf://OWNER/NAME. A local path of the same name wins.
      input: .jsonl, .csv or .parquet file, or .txt file with one review per line.
      output: output file.
      task: atsa (targets), acsa (categories), analysis or rewriting (teacher text).
      engine: jax or ct2; by default the one that fits the model.
      batch_size: number of reviews that are decoded together; it changes the speed, not the predictions.
      beams: number of beams; 1 for greedy decoding.
      max_input_length: longest input in tokens; reviews that are cut are counted.
      max_output_length: longest output in tokens; by default 100 for atsa and acsa, 400 for teacher text.
      text_column: key or column of the text.
      id_column: key or column of the id; rows without one get their number.
      base: for a trained decoder-only student, the output directory of fsa import-hf from which training started.
      vocabulary: SentencePiece model of a T5 student, if it is not next to the weights.
      instruction: text before the review in the user's turn (decoder-only students).
      threads: number of batches that CTranslate2 decodes in parallel; 0 for one per core.
      device: device of CTranslate2.
      overwrite: whether to replace an earlier output, or the unfinished one of another model, input or settings.
    """
    from fsa_base import checksums
    from fsa_base.errors import SettingError
    from fsa_jax.serving.inputs import read_rows
    from fsa_jax.serving.predict_file import predict_file, unfinished_model
    from fsa_jax.serving.predictor import Predictor, located

    if batch_size < 1:
        raise SettingError("--batch_size", expected="1 or more", found=str(batch_size), fix="--batch_size 32")
    # All rows are read once before the model is loaded, so that a bad row is reported at once and not after an hour.
    total = sum(1 for _ in read_rows(input, text_column=text_column, id_column=id_column))
    settings = {
        "model as given": str(model),
        "input": checksums.file_digest(input),
        "text_column": text_column,
        "id_column": id_column,
    }
    begun = None if overwrite else unfinished_model(output, str(model))
    if begun:
        print(f"continuing the unfinished {output} with its model {begun}", file=sys.stderr)
    model, identity = located(begun or model)
    if identity:
        print(f"model: {identity['model']}", file=sys.stderr)
    predictor = Predictor(
        model,
        task=task,
        engine=engine,
        beams=beams,
        max_input_length=max_input_length,
        max_output_length=max_output_length,
        base=base,
        vocabulary=vocabulary,
        instruction=instruction,
        threads=threads,
        device=device,
    )
    rows = read_rows(input, text_column=text_column, id_column=id_column)
    outcome = predict_file(
        predictor,
        rows,
        output,
        settings=settings | identity,
        inputs=[input],
        batch_size=batch_size,
        total=total,
        overwrite=overwrite,
    )
    resumed = f" ({outcome.resumed} were written before)" if outcome.resumed else ""
    print(f"{outcome.predicted} predictions with {predictor.engine}{resumed}: {output}")
    print(f"{outcome.cut} reviews were cut at {max_input_length} tokens; {outcome.empty} have no opinion")
