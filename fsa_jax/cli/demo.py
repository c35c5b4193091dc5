"""``fsa demo``: the whole flow on a generated world, measured."""

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
    """Teaches, distils, fine-tunes and scores a small student on a generated world, and writes one HTML page.

    Started again, it goes on where it was stopped; with other sizes it does again what they change.

    Args:
      out: folder of everything that the demo makes; new, empty, or an earlier demo's.
      reviews: generated reviews, each with an analysis and a rewriting by the oracle teacher.
      labelled_sentences: labelled sentences to fine-tune on.
      dev_sentences: labelled sentences that the learning rates are searched on.
      test_sentences: easy test sentences, and as many hard ones.
      mistake_rate: probability that the teacher gets an opinion wrong.
      hallucination_rate: probability that the teacher adds an opinion about something that a review never mentions.
      vocabulary_rows: rows of the student's embedding, a multiple of 128; 101 of them are no SentencePiece.
      distillation_steps: steps of training on teacher text.
      finetuning_steps: steps of every training on labelled sentences.
      learning_rates: those that are searched, for the distilled student and the one from scratch alike.
      seeds: of fine-tuning; the first one is that of the search.
      world_seed: of the generated world, the teacher's mistakes and distillation.
      workers: trainings side by side; one a core and at most four by default.
    """
    from pathlib import Path

    from fsa_jax.common.terminal import console
    from fsa_jax.demo.flow import Demo
    from fsa_jax.demo.processes import CommandFailed
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
