"""``fsa benchmark``: fine-tunes and scores students on labelled sentences, with several seeds."""

from __future__ import annotations

import sys
from pathlib import Path


def command(
    output: Path | None = None,
    student: list[str] | None = None,
    task: list[str] | None = None,
    seed: list[int] | None = None,
    train_share: list[float] | None = None,
    learning_rate: list[float] | None = None,
    epochs: int = 20,
    batch_size: int = 16,
    share_seed: int = 0,
    data: Path | None = None,
    vocabulary: Path | None = None,
    corpus: Path | None = None,
    together: int | None = None,
    workers: int | None = None,
    keep_students: bool = False,
    dry_run: bool = False,
    engine_flags: list[str] | None = None,
) -> int:
    """Fine-tunes students on labelled sentences with several seeds, and scores them on all subsets of the test set.

    The same command again continues a benchmark that was stopped. Every prediction is stored in OUTPUT/runs.

    Args:
      output: folder of the benchmark.
      student: students as NAME=WHERE: a checkpoint, MODEL_DIR or MODEL_DIR@best of a run, an output folder of fsa
        import-hf, or a model on the Hub; scratch:gin/models/X.gin is a student with random weights.
      task: labelled sentences, such as rest14, or the path of labels in any known format (docs/labels.md); by default
        all in the data folder.
      seed: random seeds of fine-tuning; by default the ten of the released recipe.
      train_share: shares of the training sentences, such as 0.01 0.1 1; by default 1.
      learning_rate: learning rates; the one with the best validation F1 of the first seed is used; by default that of
        the recipe.
      epochs: epochs of fine-tuning; the one with the best validation F1 is scored.
      batch_size: sentences of a step.
      share_seed: random seed of the choice of a share.
      data: folder with the labelled sentences, in the layout of docs/data.md; by default FSA_DATA_DIR, or data/.
      vocabulary: SentencePiece model of T5 students that have none of their own; by default T5's.
      corpus: reviews of the distillation (its data folder, or an output of fsa sample), in which test sentences are
        searched.
      together: seeds that are trained together on a device; by default one on a CPU, elsewhere the fastest.
      workers: trainings that run in parallel; by default one per core on a CPU, at most four, and one elsewhere.
      keep_students: whether to keep the weights of the fine-tuned students.
      dry_run: whether only to print what would be trained, with an estimate of the time.
      engine_flags: flags of the engine to pass on; they can also be written as they are, such as --gin.NAME=VALUE.

    Example:
      fsa benchmark --student distilled=runs/reviews scratch=scratch:gin/models/t5_small.gin --output bench
      fsa benchmark --student base=google-t5/t5-base --task rest14 --seed 42 52 62 --output bench
    """
    from fsa_base.errors import SettingError
    from fsa_jax.benchmark.flow import Benchmark
    from fsa_jax.benchmark.jobs import load_dataset
    from fsa_jax.benchmark.processes import CommandFailed
    from fsa_jax.benchmark.settings import SEEDS, BenchmarkSettings
    from fsa_jax.benchmark.students import read_students
    from fsa_jax.common.paths import data_dir
    from fsa_jax.common.terminal import console
    from fsa_jax.data.benchmark_files import label_sets
    from fsa_jax.data.own_labels import resolve_task
    from fsa_jax.training.engine_command import require_engine

    require_engine()
    if not student or output is None:
        raise SettingError(
            "--student and --output",
            expected="a student or more, and a folder for the results",
            found="no --output" if student else "no --student",
            fix="fsa benchmark --student mine=runs/mine --output bench",
        )
    root = data or data_dir()
    words = task or label_sets(root)
    if not words:
        raise SettingError(
            "--task",
            expected="labelled sentences in the data folder (fsa/{atsa,acsa}/NAME), or the path of labels",
            found=f"none in {root}",
            fix="--data DIR, or --task my_reviews.csv (docs/labels.md)",
        )
    datasets = [load_dataset(*resolve_task(word, root)) for word in words]
    settings = BenchmarkSettings(
        tasks=tuple(dataset.name for dataset in datasets),
        seeds=tuple(seed or SEEDS),
        train_shares=tuple(train_share or (1.0,)),
        learning_rates=tuple(learning_rate or ()),
        epochs=epochs,
        batch_size=batch_size,
        share_seed=share_seed,
        together=together,
    ).check()
    students = read_students(student, vocabulary)
    benchmark = Benchmark(
        output,
        students,
        datasets,
        settings,
        flags=engine_flags or (),
        corpus=corpus,
        workers=workers,
        keep_students=keep_students,
        console=console(),
    )
    try:
        if dry_run:
            benchmark.plan()
            return 0
        lines = benchmark.run()
    except CommandFailed as error:
        print(f"fsa benchmark: {error}", file=sys.stderr)
        return 1
    return 1 if any(line.errors for line in lines) else 0
