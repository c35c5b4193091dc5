"""``fsa eval``: scores a fine-tuned student on test sentences."""

from __future__ import annotations

import sys
from pathlib import Path


def command(
    model_dir: str,
    split: list[str] | None = None,
    task: str | None = None,
    data: Path | None = None,
    vocabulary: Path | None = None,
    base: Path | None = None,
    batch_size: int | None = None,
    dry_run: bool = False,
    engine_flags: list[str] | None = None,
) -> int:
    """Scores a fine-tuned student: prints the command of the engine for each split, runs it, and prints the scores.

    The results, with the predictions, are in MODEL_DIR/SPLIT.

    Args:
      model_dir: MODEL_DIR of a run or the name of its student (the best checkpoint is scored, or the newest if the run
        keeps no best one), MODEL_DIR@best, MODEL_DIR@newest, or one checkpoint of a run.
      split: test (original and hard together), original, hard, implicit or multi, or several of them; by default test.
      task: labels to score on, such as rest14; by default those on which the student was trained.
      data: folder with the labels, in the layout of docs/data.md; by default that of the training, else FSA_DATA_DIR,
        else data/.
      vocabulary: SentencePiece model; by default that of the training, else T5's.
      base: for a decoder-only student, the output folder of fsa import-hf; by default that of the training.
      batch_size: number of sentences that are decoded together; by default 64.
      dry_run: whether only to print the configurations.
      engine_flags: flags of the engine to pass on; they can also be written as they are, such as --gin.NAME=VALUE.

    Example:
      fsa eval restaurants --split test original hard
    """
    from rich.table import Table

    from fsa_base import checkpoint_files
    from fsa_jax.common.paths import DATA_DIR_VARIABLE, data_dir
    from fsa_jax.common.terminal import console
    from fsa_jax.training import eval_command, found_data
    from fsa_jax.training.engine_command import require_engine

    require_engine()
    run = eval_command.find_run(model_dir)
    directory = data or Path(run.environment.get(DATA_DIR_VARIABLE, data_dir()))
    found, task = found_data.find_for_task(directory, task)
    commands = {
        name: eval_command.eval_command(
            run,
            name,
            found,
            task=task,
            vocabulary=vocabulary,
            base=base,
            batch_size=batch_size,
            engine_flags=[*(["--dry_run"] if dry_run else []), *(engine_flags or ())],
        )
        for name in dict.fromkeys(split or ["test"])
    }
    rows: dict[str, dict[str, float]] = {}
    status = 0
    for name, engine in commands.items():
        print(engine, file=sys.stderr, flush=True)
        before = len(eval_command.scores_so_far(engine))
        status = engine.run()
        if status:
            break
        if not dry_run:
            step = checkpoint_files.step_of(run.checkpoint) or 0
            rows[name] = eval_command.new_scores(engine, before, step)
    if not rows:
        return status
    names = list(dict.fromkeys(name for row in rows.values() for name in row))
    task_name = next(iter(commands.values())).bindings["MIXTURE_OR_TASK_NAME"]
    table = Table("split", *names)
    for name, row in rows.items():
        table.add_row(name, *(f"{row[key]:.1f}" if key in row else "" for key in names))
    print(f"{run.checkpoint}, {task_name}, in percent:")
    console().print(table)
    return status
