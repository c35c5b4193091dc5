"""``fsa predict``: a file of reviews to a file of predictions."""

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

    A run that was stopped goes on where it stopped when the same command is given again, with the checkpoint that it
    began with; where model, vocabulary, input, settings or version are others it is refused.

    Args:
      model: a checkpoint, MODEL_DIR@best or MODEL_DIR@newest of a run, what fsa import-hf or fsa export-ct2 wrote, or a
        Hugging Face directory.
      input: .jsonl, .csv, .parquet, or .txt with a review a line.
      output: file to write.
      task: atsa (targets), acsa (categories), analysis or rewriting (teacher text).
      engine: jax or ct2; by default what the model is for.
      batch_size: reviews decoded together; it changes the speed, not the predictions.
      beams: 1 for greedy decoding.
      max_input_length: tokens of a review; what is cut is counted.
      max_output_length: tokens of an output; by default 100 for atsa and acsa, 400 for teacher text.
      text_column: key or column of the text.
      id_column: key or column of the id; rows without one get their number.
      base: for a trained decoder-only student, what fsa import-hf wrote of the model that it began with.
      vocabulary: SentencePiece model of a T5, where it is not beside the weights.
      instruction: what the user's turn says before the review (decoder-only students).
      threads: batches that CTranslate2 decodes side by side; 0 for one a core.
      device: of CTranslate2.
      overwrite: replace an earlier output, or discard the unfinished one of another model, input or settings.
    """
    from fsa_base import checksums, runs
    from fsa_base.errors import SettingError
    from fsa_jax.serving.inputs import read_rows
    from fsa_jax.serving.predict_file import predict_file, unfinished_model
    from fsa_jax.serving.predictor import Predictor, is_exported

    if batch_size < 1:
        raise SettingError("--batch_size", expected="1 or more", found=str(batch_size), fix="--batch_size 32")
    # All rows are read once before the model is loaded: a bad one is told at once, not after an hour.
    total = sum(1 for _ in read_rows(input, text_column=text_column, id_column=id_column))
    settings = {
        "model as given": str(model),
        "input": checksums.file_digest(input),
        "text_column": text_column,
        "id_column": id_column,
    }
    begun = None if overwrite else unfinished_model(output, str(model))
    if begun:
        print(f"going on with what the unfinished {output} is of: {begun}", file=sys.stderr)
    model = begun or (model if is_exported(model) else runs.resolve(model))
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
        settings=settings,
        inputs=[input],
        batch_size=batch_size,
        total=total,
        overwrite=overwrite,
    )
    resumed = f" ({outcome.resumed} were there already)" if outcome.resumed else ""
    print(f"{outcome.predicted} predictions with {predictor.engine}{resumed}: {output}")
    print(f"{outcome.cut} reviews were cut at {max_input_length} tokens; {outcome.empty} have no opinion")
