"""Runs three journeys through the code, and records the files of this project whose functions are called.

    python tests/journeys/journeys.py               prints counts and files
    python tests/journeys/journeys.py --functions   also prints the functions that are called in each file
    python tests/journeys/journeys.py --whole       counts everything that the commands of the review journey call

* Training: from the call of ``t5x.train.train`` until the first step is compiled and has run. The run is that of
  tests/runtime/tiny_run.py: the project's T5, packed and shuffled data, Adafactor. It neither saves nor evaluates,
  since hooks do that. The work of gin before the call is not part of the journey.
* A prediction: ``fsa predict`` of one sentence with greedy decoding, with CTranslate2 from an exported T5, and with JAX
  from a checkpoint and from a directory of Hugging Face files.
* A review: it goes through ``fsa sample`` (from JSON lines to Parquet, with all filters), ``fsa teach`` (one prompt, an
  endpoint), ``fsa check`` (of the teacher's store) and ``fsa corpus``, and the SeqIO task of the corpus makes a
  training example from it: shuffled, tokenized and trimmed. Each stage reads the output of the stage before. There are
  twenty reviews, since a corpus holds out a tenth of its rows and its task needs at least one held-out row.

A command is recorded from the call of its function ``command`` to its return; the parser of the command line is not
part of it. For a prediction, all calls count. In the four commands of a review, a function counts only if it holds the
text of the review or a text that quotes it: functions that read, filter, ask about, check and write the review count;
locks, pages with plots and checksums do not. tests/journeys/called_files.py defines what counts as a call, and LEFT_OUT
below which files are not counted.
"""

from __future__ import annotations

import functools
import importlib
import json
import os
import re
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

ROOT = Path(__file__).parents[2]
sys.path += [str(ROOT), *(str(ROOT / "tests" / folder) for folder in ("faults", "journeys", "weights", "runtime"))]

from called_files import CalledFiles, matches, recording  # noqa: E402

ERRORS = ("*/errors.py",)
HOOKS = ("runtime/t5x/hooks/*",)
DATA = ("runtime/t5x/data/*",)
LEFT_OUT = {"training": (*ERRORS, *HOOKS, *DATA)}
"""Files that do not count, by journey; calls from inside them do not count either. Other journeys leave out ERRORS."""
NETWORK = {"training": ("base/fsa_base/networks/*",)}
"""Files that are counted separately, by journey."""

WORD = "zyzzyva"
"""A word in every review, by which the functions that handle a review are recognised."""
STARS = (1, 2, 2, 3, 3, 3, 3, 4, 4, 5) * 2
"""The stars of the reviews, in the default ratio of ``fsa sample``."""


@dataclass(frozen=True)
class Journey:
    """The files whose functions were called, each list in the order of the first calls.

    Attributes:
      files: the files that count.
      network: the files of the network, which are counted separately.
      left_out: the files that do not count.
      functions: the called functions, by file.
    """

    files: list[str]
    network: list[str]
    left_out: list[str]
    functions: dict[str, set[str]]


def all_journeys(folder: Path, marker: str | None = WORD) -> dict[str, Journey]:
    """Runs all journeys in an empty folder and returns them by name.

    Args:
      folder: empty folder for the outputs.
      marker: word by which a review is followed through the commands. If None, all calls of the commands count.
    """
    from tests.serving.conftest import train_vocabulary

    vocabulary = train_vocabulary(folder)
    with mock.patch.dict(os.environ, {"FSA_DATA_DIR": str(folder / "data"), "FSA_VOCAB": str(vocabulary)}):
        calls = {
            **dict(_review(folder, marker)),
            **dict(_predictions(folder, vocabulary)),
            "training": _training(folder),
        }
    return {name: _journey(name, called) for name, called in calls.items()}


def _journey(name: str, called: CalledFiles) -> Journey:
    functions = called.functions
    errors = [file for file in functions if matches(file, ERRORS)]
    network = [file for file in functions if matches(file, NETWORK.get(name, ()))]
    files = [file for file in functions if file not in errors + network]
    left_out = [file for file in (*errors, *called.left_out) if file not in files]
    return Journey(files, network, left_out, functions)


def _command(name: str, *arguments: Any, marker: str | None = None, **options: Any) -> CalledFiles:
    command = importlib.import_module(f"fsa_jax.cli.{name}").command
    with recording(marker) as called:
        assert not command(*arguments, **options)
    return called


def _review(folder: Path, marker: str | None) -> Iterator[tuple[str, CalledFiles]]:
    import seqio
    from hostile_server import MODEL, hostile_server

    import tasks  # noqa: F401 - registers the tasks
    from tests.serving.conftest import REVIEWS

    dump, reviews, store = folder / "dump.jsonl", folder / "reviews.parquet", folder / "store"
    with dump.open("w", encoding="utf-8") as lines:
        for number, (stars, text) in enumerate(zip(STARS, REVIEWS.read_text("utf-8").splitlines(), strict=False)):
            review = {"review_id": str(number), "text": f"Visit {number}: {WORD}. {text}", "stars": stars}
            lines.write(json.dumps(review) + "\n")
    yield "sample", _command("sample", str(dump), reviews, size=len(STARS), marker=marker)
    with hostile_server() as server:
        server.mode, server.raw = "raw", _analysis
        yield (
            "teach",
            _command("teach", str(reviews), store, MODEL, endpoint=server.url, prompts=["analysis"], marker=marker),
        )
    yield "check", _command("check", store, folder / "checked", reviews=reviews, marker=marker)
    yield "corpus", _command("corpus", folder / "checked", folder / "data" / "corpus", marker=marker)
    with recording() as called:
        task = seqio.get_mixture_or_task("fsa_corpus_analysis")
        dataset = task.get_dataset({"inputs": 64, "targets": 64}, "train", shuffle=True, seed=0)
        next(dataset.as_numpy_iterator())
    yield "SeqIO example", called


def _analysis(good: bytes) -> bytes:
    """Turns the server's answer, which names the review, into an analysis that the check keeps."""
    from hostile_server import completion, reply

    (visit,) = re.findall("visit [0-9]+", good.decode())
    return reply(
        completion(f'Opinion Target 1: "{visit}"\nAspect: Food\nSentiment: Neutral\nReasoning: {WORD}, it says.')
    )


def _predictions(folder: Path, vocabulary: Path) -> Iterator[tuple[str, CalledFiles]]:
    import jax
    import numpy as np
    from hf_models import T5, write_model

    from fsa_jax.weights.weight_checkpoints import save_weights
    from tests.serving.conftest import CONFIG, random_parameters

    checkpoint = save_weights(folder, 7, jax.tree.map(np.asarray, random_parameters()))
    exported, downloaded, sentence = folder / "exported", folder / "downloaded", folder / "sentence.txt"
    sentence.write_text("The pizza was good but the waiter was rude.")
    _command("export_ct2", checkpoint, exported, vocabulary=vocabulary, quantization="float32", check_count=1)
    write_model(downloaded, {**T5, "vocab_size": CONFIG.vocab_size})
    predict = functools.partial(_command, "predict", max_output_length=8)
    yield "prediction with CTranslate2", predict(exported, sentence, folder / "1.jsonl")
    predict = functools.partial(predict, vocabulary=vocabulary)
    yield "prediction with JAX from a checkpoint", predict(checkpoint, sentence, folder / "2.jsonl")
    yield "prediction with JAX from Hugging Face files", predict(downloaded, sentence, folder / "3.jsonl")


def _training(folder: Path) -> CalledFiles:
    import jax
    import tiny_run

    from t5x.train import train
    from t5x.trainer import Trainer
    from t5x.utils import CheckpointConfig

    arguments = tiny_run.arguments(folder / "run", 1, checkpoint_cfg=CheckpointConfig(save=None))
    make = arguments["trainer_cls"]
    with recording(left_out=LEFT_OUT["training"]) as called:

        class UntilTheFirstStep(Trainer):
            def train_step(self, batch: Any) -> Any:
                metrics = jax.block_until_ready(super().train_step(batch))
                called.stop()
                return metrics

        arguments["trainer_cls"] = functools.partial(UntilTheFirstStep, *make.args, **make.keywords)
        train(**arguments)
    return called


def main() -> None:
    """Prints every journey."""
    with tempfile.TemporaryDirectory() as folder:
        journeys = all_journeys(Path(folder), None if "--whole" in sys.argv else WORD)
    for name, journey in journeys.items():
        apart = f", and {len(journey.network)} of the network" if journey.network else ""
        print(f"\n{name}: {len(journey.files)} files{apart}")
        for kind, files in (("", journey.files), ("network: ", journey.network), ("left out: ", journey.left_out)):
            for file in files:
                functions = (
                    f"  {', '.join(sorted(journey.functions.get(file, ())))}" if "--functions" in sys.argv else ""
                )
                print(f"  {kind}{file}{functions}")


if __name__ == "__main__":
    main()
