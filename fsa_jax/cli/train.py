"""``fsa train``: distils or fine-tunes a student with a recipe of gin/."""

from __future__ import annotations

import sys
from pathlib import Path


def command(
    data: Path | None = None,
    student: str | None = None,
    size: str | None = None,
    stage: str | None = None,
    from_: str | None = None,
    task: str | None = None,
    steps: int | None = None,
    batch_size: int | None = None,
    learning_rate: float | None = None,
    seed: int | None = None,
    vocabulary: Path | None = None,
    dry_run: bool = False,
    engine_flags: list[str] | None = None,
) -> int:
    """Distils a student from teacher text, or fine-tunes it on labels: prints the command of the engine and runs it.

    The same command again continues a training that was stopped.

    Args:
      data: output folder of fsa corpus, or a folder with the layout of docs/data.md (corpus/, teacher/*.jsonl, fsa/);
        by default FSA_DATA_DIR, or data/.
      student: name of the run, whose MODEL_DIR is runs/NAME; a name with a slash is the path itself.
      size: 10m (2 CPU cores), 60m, base or large; by default the size of --from.
      stage: distill (teacher text) or finetune (labels); by default what --task and the data are for.
      from_: what to start from: a checkpoint, MODEL_DIR or MODEL_DIR@best of a run, the name of a student, an output
        folder of fsa import-hf (also of a decoder-only model), or a model on the Hub such as google-t5/t5-base, which
        is imported into weights/; by default random weights.
      task: labels to fine-tune on, such as rest14, or the path of labels in any known format (docs/labels.md), such as
        my_reviews.csv; or a task of tasks.py, such as fsa_corpus_grounded.
      steps: number of training steps; by default that of the recipe, for labels 20 epochs.
      batch_size: number of examples (rows, if packed) per step.
      learning_rate: highest learning rate.
      seed: random seed.
      vocabulary: SentencePiece model; by default T5's.
      dry_run: whether only to print the configuration of the training.
      engine_flags: flags of the engine to pass on; they can also be written as they are, such as --gin.NAME=VALUE.

    Example:
      fsa train --data data --student reviews --size 10m
      fsa train --data data --student restaurants --from reviews --task rest14
      fsa train --data data --student mine --from reviews --task my_reviews.csv
    """
    from fsa_base.errors import SettingError
    from fsa_jax.common.paths import data_dir
    from fsa_jax.training import earlier_run, found_data, run_record, starting_point
    from fsa_jax.training.engine_command import require_engine
    from fsa_jax.training.train_command import TrainOptions, train_command

    require_engine()
    if not student:
        raise SettingError("--student", expected="a name for the run", found="none", fix="--student first")
    found, task = found_data.find_for_task(data or data_dir(), task)
    print("found", found, file=sys.stderr)
    options = TrainOptions(
        student=student,
        size=size,
        stage=stage,
        task=task,
        steps=steps,
        batch_size=batch_size,
        learning_rate=learning_rate,
        seed=seed,
        vocabulary=vocabulary,
        dry_run=dry_run,
        engine_flags=engine_flags or (),
    )
    engine = train_command(options, found, starting_point.find(from_) if from_ is not None else None)
    print(engine, file=sys.stderr)
    if run := earlier_run.find(engine.bindings["MODEL_DIR"]):
        print(run.progress(engine.bindings.get("TRAIN_STEPS")), file=sys.stderr)
    if not dry_run:
        run_record.write(engine.bindings["MODEL_DIR"], engine.environment)
    engine.replace_process()
