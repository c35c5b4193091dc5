"""``fsa demo``: runs and measures the whole flow on generated data."""

from __future__ import annotations

import shlex
import sys


def command(
    out: str = "demo",
    reviews: int = 20_000,
    labelled_sentences: int = 300,
    dev_sentences: int = 200,
    test_sentences: int = 500,
    mistake_rate: float = 0.05,
    hallucination_rate: float = 0.05,
    vocabulary_rows: int = 1536,
    distillation_steps: int = 1000,
    finetuning_steps: int = 400,
    learning_rates: tuple[float, ...] = (3e-3, 1e-2, 3e-2, 1e-1),
    seeds: tuple[int, ...] = (42, 52, 62),
    world_seed: int = 0,
    workers: int | None = None,
) -> int:
    """Teaches, distils, fine-tunes and scores a small student on generated data, and writes one HTML page.

    If it is started again, it continues where it was stopped. With other sizes it repeats the stages that they change.

    Args:
      out: output folder: a new or empty folder, or that of an earlier demo.
      reviews: number of generated reviews; the oracle teacher writes an analysis and a rewriting for each.
      labelled_sentences: number of labelled sentences for fine-tuning.
      dev_sentences: number of labelled sentences for the search of the learning rates.
      test_sentences: number of easy test sentences; there are as many hard ones.
      mistake_rate: probability that the teacher gets an opinion wrong.
      hallucination_rate: probability that the teacher adds an opinion about something that a review never mentions.
      vocabulary_rows: number of rows of the student's embedding, a multiple of 128; 101 of them are not SentencePieces.
      distillation_steps: number of training steps on teacher text.
      finetuning_steps: number of training steps on labelled sentences, for each student.
      learning_rates: learning rates to search, the same for the distilled student and the student from scratch.
      seeds: random seeds of fine-tuning; the search uses the first one.
      world_seed: random seed of the generated world, the teacher's mistakes and distillation.
      workers: number of parallel trainings; by default one per core and at most four.

    Example:
      fsa demo --out demo
      fsa demo --reviews 2000 --learning-rates 1e-2 3e-2 --seeds 42
    """
    from pathlib import Path

    from fsa_jax.benchmark.processes import CommandFailed
    from fsa_jax.common.terminal import console
    from fsa_jax.demo.flow import Demo
    from fsa_jax.demo.settings import DemoSettings

    settings = DemoSettings(
        reviews=reviews,
        labelled_sentences=labelled_sentences,
        dev_sentences=dev_sentences,
        test_sentences=test_sentences,
        mistake_rate=mistake_rate,
        hallucination_rate=hallucination_rate,
        vocabulary_rows=vocabulary_rows,
        distillation_steps=distillation_steps,
        finetuning_steps=finetuning_steps,
        learning_rates=learning_rates,
        seeds=seeds,
        world_seed=world_seed,
    )
    typed = shlex.join(["fsa", "demo", *sys.argv[2:]])
    try:
        Demo(settings, Path(out), workers, typed, console()).run()
    except CommandFailed as error:
        print(f"fsa demo: {error}", file=sys.stderr)
        return 1
    return 0
