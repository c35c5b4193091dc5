"""PyTorch models saved as Hugging Face saves them, and real sentences to run them on."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from small_models import torch_model_of

from fsa_jax.data.fsa import load
from fsa_jax.serving.tokenization import T5Tokenization

SENTENCES = 64


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Marks this folder's tests; they run in the environment of ``make parity``."""
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.parity)
            if importlib.util.find_spec("torch") is None:
                item.add_marker(pytest.mark.skip(reason="needs PyTorch: make parity"))


@pytest.fixture(scope="session")
def torch_model(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], tuple[Any, Path]]:
    """Family to its PyTorch model and the directory that it was saved to."""
    made: dict[str, tuple[Any, Path]] = {}

    def make(family: str) -> tuple[Any, Path]:
        if family not in made:
            model, directory = torch_model_of(family), tmp_path_factory.mktemp(family)
            model.save_pretrained(directory)
            made[family] = model, directory
        return made[family]

    return make


@pytest.fixture(scope="session")
def sentences(real_data_dir: Path) -> list[str]:
    """Real review sentences of very different lengths."""
    texts = sorted({sentence.text for sentence in load(real_data_dir / "fsa/atsa/rest14/dev.json")})
    texts.sort(key=len)
    return texts[:: len(texts) // SENTENCES][:SENTENCES]


@pytest.fixture(scope="session")
def sentence_ids(real_data_dir: Path, sentences: list[str]) -> list[list[int]]:
    """The sentences in T5's vocabulary, with the end token."""
    tokens = T5Tokenization(real_data_dir / "t5_vocab/spiece.model")
    return [tokens.encode_input(text, 512)[0] for text in sentences]
