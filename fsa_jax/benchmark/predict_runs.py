"""``python -m fsa_jax.benchmark.predict_runs SPEC``: the fine-tuned students of some runs predict the test sentences.

A process of its own, so that the command that waits for it holds no memory of the device.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import get_args

from fsa_base import checkpoint_files
from fsa_base.errors import DataError, FsaError
from fsa_jax.benchmark.jobs import LONGEST_INPUT, load_dataset
from fsa_jax.common.records import LabelledSentence
from fsa_jax.evaluation.prediction_runs import PREDICTIONS_FILE, SentencePrediction, write_predictions
from fsa_jax.evaluation.subsets import Subset, select
from fsa_jax.serving.prediction_record import LONGEST_OUTPUT, PAIR_TASKS


def subsets_of(sentence: LabelledSentence) -> tuple[str, ...]:
    """The subsets to which a sentence belongs; ``implicit`` only if its opinion words are annotated."""
    annotated = all(aspect.opinion_words is not None for aspect in sentence.aspects)
    known: tuple[Subset, ...] = get_args(Subset)
    return tuple(subset for subset in known if (subset != "implicit" or annotated) and select([sentence], subset))


def stored_predictions(
    kind: str, sentences: Sequence[LabelledSentence], generated: Sequence[str]
) -> list[SentencePrediction]:
    """Reads generated texts as the released rule does.

    Args:
      kind: the codec, such as ``atsa``.
      sentences: the test sentences.
      generated: the student's text about each.
    """
    codec = PAIR_TASKS[kind]
    return [
        SentencePrediction(
            id=name,
            text=sentence.text,
            gold=tuple(codec.decode(codec.encode(sentence), sentence.text)),
            predicted=tuple(codec.decode(text, sentence.text)),
            generated=text,
            subsets=subsets_of(sentence),
        )
        for name, sentence, text in zip(_distinct_ids(sentences), sentences, generated, strict=True)
    ]


def _distinct_ids(sentences: Sequence[LabelledSentence]) -> list[str]:
    """The ids of sentences; a repeated one gets a number. Some datasets number original and hard sentences alike."""
    taken = {sentence.id for sentence in sentences}
    names: list[str] = []
    seen: set[str] = set()
    for sentence in sentences:
        name, number = sentence.id, 2
        while name in seen or (name != sentence.id and name in taken):
            name, number = f"{sentence.id}-{number}", number + 1
        seen.add(name)
        names.append(name)
    return names


def predict(spec: dict) -> None:
    """Writes the predictions of every run in ``spec`` that has none yet."""
    from fsa_jax.serving.predictor import Predictor

    dataset = load_dataset(Path(spec["root"]), spec["dataset"])
    sentences = dataset.test
    for folder in map(Path, spec["folders"]):
        if (folder / PREDICTIONS_FILE).is_file():
            continue
        steps = checkpoint_files.checkpoint_steps(folder)
        if not steps:
            raise DataError(
                folder,
                expected="the weights of a fine-tuned student",
                found="none: those of learning rates that were not chosen are deleted",
                fix="delete this folder and start the benchmark again, which trains the student again",
            )
        predictor = Predictor(
            folder / f"checkpoint_{steps[-1]}",
            task=dataset.kind,  # pyright: ignore[reportArgumentType]
            vocabulary=spec["vocabulary"],
            base=spec["base"],
            max_input_length=LONGEST_INPUT,
            max_output_length=LONGEST_OUTPUT[dataset.kind],
        )
        found = predictor.predict([sentence.text for sentence in sentences], batch_size=spec["batch_size"])
        generated = [prediction.generated for prediction in found]
        write_predictions(folder / PREDICTIONS_FILE, stored_predictions(dataset.kind, sentences, generated))
        print(f"{folder}: {len(sentences)} predictions", flush=True)


def main() -> int:
    """Runs the command."""
    try:
        predict(json.loads(Path(sys.argv[1]).read_text()))
    except FsaError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
