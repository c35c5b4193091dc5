"""``fsa predict``: writes predictions for a file of reviews."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Literal


def command(
    model: Path,
    input: Path,
    output: Path,
    task: Literal["atsa", "acsa", "tasd", "asqp", "analysis", "rewriting"] | None = None,
    engine: Literal["jax", "ct2"] | None = None,
    batch_size: int = 32,
    beams: int = 1,
    max_input_length: int = 512,
    max_output_length: int | None = None,
    min_score: float = 0.0,
    input_format: Literal["jsonl", "txt", "csv", "tsv", "parquet"] | None = None,
    text_column: str | None = None,
    id_column: str | None = None,
    base: Path | None = None,
    vocabulary: Path | None = None,
    instruction: str = "",
    threads: int = 0,
    device: Literal["cpu", "cuda", "auto"] = "cpu",
    overwrite: bool = False,
) -> None:
    """Predicts opinions for every review of a file and writes them in the order of the input.

    If a run was stopped, the same command continues it, with the checkpoint with which it was started. If the model,
    vocabulary, input, settings or version differ, the command is refused.

    Args:
      model: a checkpoint, MODEL_DIR@best or MODEL_DIR@newest of a run, an output directory of fsa import-hf or fsa
        export-ct2, a Hugging Face directory, or a repository on the Hub with one of the last two: OWNER/NAME,
        OWNER/NAME@REVISION or hf://OWNER/NAME. A local path of the same name wins.
      input: .jsonl, .csv, .tsv or .txt file (one review per line), also with .gz or .zst, or .parquet file; - for
        standard input.
      output: .csv file (one row per aspect), .parquet file (one row per review), or .jsonl or another name for JSON
        lines, which are not compressed; - for JSON lines on standard output.
      task: atsa (targets), acsa (categories), tasd (both), asqp (and opinion words), analysis or rewriting (teacher
        text); by default the one for which the run was trained, and atsa for exports.
      engine: jax or ct2; by default the one that fits the model.
      batch_size: number of reviews that are decoded together; it changes the speed, not the predictions.
      beams: number of beams; 1 for greedy decoding.
      max_input_length: longest input in tokens; reviews that are cut are counted.
      max_output_length: longest output in tokens; by default 100 for atsa and acsa, 160 for tasd, 200 for
        asqp, 400 for teacher text.
      min_score: aspects with a smaller probability, 0 to 1, are left out and counted.
      input_format: format of the input, if its suffix does not say it; standard input is by default JSON lines if it
        begins with a brace, else one review per line.
      text_column: key or column of the text; by default the one with a name that fsa sample knows.
      id_column: key or column of the id, by default as for the text; rows without an id get their number.
      base: for a trained decoder-only student, the output directory of fsa import-hf from which training started.
      vocabulary: SentencePiece model of a T5 student, if it is not next to the weights.
      instruction: text before the review in the user's turn (decoder-only students).
      threads: number of batches that CTranslate2 decodes in parallel; 0 for one per core.
      device: device of CTranslate2.
      overwrite: whether to replace an earlier output, or the unfinished one of another model, input or settings.

    Example:
      fsa predict served reviews.jsonl predictions.jsonl --task atsa
    """
    from fsa_base import checksums
    from fsa_base.errors import SettingError
    from fsa_jax.serving.inputs import STANDARD, open_reviews
    from fsa_jax.serving.predict_file import predict_file, require_min_score, require_output, unfinished_model
    from fsa_jax.serving.predictor import Predictor

    if batch_size < 1:
        raise SettingError("--batch-size", expected="1 or more", found=str(batch_size), fix="--batch-size 32")
    require_min_score(min_score, task)
    require_output(output, [input], overwrite)
    report = sys.stdout if output != STANDARD else sys.stderr
    reviews = open_reviews(input, format=input_format, text_column=text_column, id_column=id_column)
    print(reviews, file=report, flush=True)
    # All rows are read once before the model is loaded, so that a bad row is reported at once and not after an hour.
    checked = reviews.check()
    if str(checked):
        print(checked, file=report, flush=True)
    settings = {
        "model as given": str(model),
        "input": checksums.file_digest(reviews.file),
        "input_format": reviews.format,
        "text_column": reviews.text_column,
        "id_column": reviews.id_column,
    }
    begun = None if overwrite else unfinished_model(output, str(model))
    if begun:
        print(f"continuing the unfinished {output} with its model {begun}", file=sys.stderr)
    predictor = Predictor(
        begun or model,
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
    print(f"model: {predictor.identity['model']}", file=sys.stderr)
    if task is None and predictor.task != "atsa":
        print(f"task: {predictor.task}, for which the run was trained (--task chooses another)", file=sys.stderr)
    outcome = predict_file(
        predictor,
        reviews.rows(),
        output,
        settings=settings,
        inputs=[reviews.file],
        batch_size=batch_size,
        total=checked.total,
        min_score=min_score,
        overwrite=overwrite,
    )
    reviews.close()
    resumed = f" ({outcome.resumed} were written before)" if outcome.resumed else ""
    where = "standard output" if output == STANDARD else output
    print(f"{outcome.predicted} predictions with {predictor.engine}{resumed}: {where}", file=report)
    without_text = f"; {outcome.without_text} have no text" if outcome.without_text else ""
    print(
        f"{outcome.cut} reviews were cut at {max_input_length} tokens; {outcome.empty} have no opinion{without_text}",
        file=report,
    )
    if outcome.unreadable:
        print(f"no output can be read as {predictor.task}, such as {outcome.unreadable}: is --task right?", file=report)
    if min_score:
        print(f"{outcome.left_out} aspects were left out: their probability is below {min_score:g}", file=report)
