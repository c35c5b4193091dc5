"""A small T5 with random weights and its own vocabulary, as a checkpoint."""

from __future__ import annotations

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import sentencepiece

from fsa_jax.checkpoints import save_weights
from fsa_jax.models.t5.config import T5Config
from fsa_jax.models.t5.network import Transformer

REVIEWS = Path(__file__).parents[2] / "fsa_jax" / "serving" / "check_sentences.txt"


@pytest.fixture(scope="session")
def texts() -> list[str]:
    """Two dozen review sentences."""
    return REVIEWS.read_text().splitlines()


@pytest.fixture(scope="session")
def vocabulary(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A SentencePiece model of the sentences."""
    prefix = tmp_path_factory.mktemp("vocabulary") / "spiece"
    sentencepiece.SentencePieceTrainer.Train(  # pyright: ignore[reportAttributeAccessIssue]
        f"--input={REVIEWS} --model_prefix={prefix} --vocab_size=150 --pad_id=0 --eos_id=1 --unk_id=2 --bos_id=-1 "
        "--hard_vocab_limit=false --minloglevel=2"
    )
    return prefix.with_suffix(".model")


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The checkpoint of a T5 v1.1 with random weights."""
    config = T5Config(
        vocab_size=256,
        emb_dim=32,
        num_heads=2,
        num_encoder_layers=1,
        num_decoder_layers=1,
        head_dim=8,
        mlp_dim=48,
        mlp_activations=("gelu", "linear"),
    )
    ones = jnp.ones((1, 4), jnp.int32)
    params = Transformer(config).init(jax.random.PRNGKey(3), ones, ones, ones, enable_dropout=False)["params"]
    directory = tmp_path_factory.mktemp("student")
    return save_weights(directory, 7, jax.tree.map(np.asarray, params))
