"""PyTorch models saved as Hugging Face saves them, and sentences to run them on.

Real sentences and T5's vocabulary if this machine has them, else generated sentences and a vocabulary trained on them.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from small_models import torch_model_of

from fsa_jax.data import teacher_text
from fsa_jax.data.benchmark_files import load
from fsa_jax.data.teacher_text import TeacherRow
from fsa_jax.demo import train_vocabulary
from fsa_jax.synthetic.files import TEACHER_FILE, generate
from fsa_jax.synthetic.oracle import Oracle
from fsa_jax.synthetic.world import SplitSizes
from fsa_jax.tokenizers.t5 import T5Tokenizer
from tests.conftest import data_directory

SENTENCES = 64
T5_PIECES = 32_000


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Marks this folder's tests; they run in the environment of ``make parity``."""
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.parity)
            if importlib.util.find_spec("torch") is None:
                item.add_marker(pytest.mark.skip(reason="needs PyTorch: make parity"))


@pytest.fixture(scope="session")
def torch_model(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], tuple[Any, Path]]:
    """A function from a family to its PyTorch model and the directory that the model was saved to."""
    made: dict[str, tuple[Any, Path]] = {}

    def make(family: str) -> tuple[Any, Path]:
        if family not in made:
            model, directory = torch_model_of(family), tmp_path_factory.mktemp(family)
            model.save_pretrained(directory)
            made[family] = model, directory
        return made[family]

    return make


@dataclass(frozen=True)
class Texts:
    """The texts that the models read.

    Attributes:
      sentences: sentences of very different lengths.
      rows: reviews and teacher texts.
      vocabulary: a SentencePiece model of 32,000 pieces, like T5's.
    """

    sentences: list[str]
    rows: list[TeacherRow]
    vocabulary: Path


@pytest.fixture(scope="session")
def texts(tmp_path_factory: pytest.TempPathFactory) -> Texts:
    """The project's real data if they are complete, else generated data: no test here needs T5's vocabulary."""
    directory = data_directory()
    real = [directory / name for name in ("fsa/atsa/rest14/dev.json", "teacher/mixtral_8x7b_reviews.jsonl")]
    real.append(directory / "t5_vocab/spiece.model")
    if not all(file.is_file() for file in real):
        directory = tmp_path_factory.mktemp("generated")
        sizes = SplitSizes(train=8, dev=300, test=8, hard_test=8)
        generate(directory, 0, 400, sizes, Oracle(0, 0.05, 0.05))
        real = [directory / "fsa/atsa/rest14/dev.json", directory / TEACHER_FILE, directory / "spiece.model"]
        train_vocabulary.train(real[1], 1_000, real[2])
        pad_vocabulary(real[2], T5_PIECES)
    dev, teacher, model = real
    found = sorted({sentence.text for sentence in load(dev)})
    found.sort(key=len)
    return Texts(found[:: len(found) // SENTENCES][:SENTENCES], list(teacher_text.read(teacher)), model)


def pad_vocabulary(model: Path, pieces: int) -> None:
    """Adds pieces that occur in no text to a SentencePiece model until it has ``pieces`` pieces."""
    from sentencepiece import sentencepiece_model_pb2

    content: Any = sentencepiece_model_pb2.ModelProto()  # pyright: ignore[reportAttributeAccessIssue]
    content.ParseFromString(model.read_bytes())
    for number in range(len(content.pieces), pieces):
        content.pieces.add(piece=f"\u2581\u4e00{number}\u4e00", score=-1e6 - number)
    model.write_bytes(content.SerializeToString())


@pytest.fixture(scope="session")
def sentences(texts: Texts) -> list[str]:
    """Sentences of very different lengths."""
    return texts.sentences


@pytest.fixture(scope="session")
def sentence_ids(texts: Texts) -> list[list[int]]:
    """The sentences as ids, with the end token."""
    tokens = T5Tokenizer(texts.vocabulary)
    return [tokens.encode_input(text, 512)[0] for text in texts.sentences]
