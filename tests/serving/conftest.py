"""A small T5 with random weights and its own vocabulary, as a checkpoint."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import sentencepiece

from fsa_base.networks.t5.network import T5Config, Transformer
from fsa_jax.serving.export_check import right_padded
from fsa_jax.tokenizers.t5 import T5Tokenizer
from fsa_jax.weights.weight_checkpoints import save_weights

REVIEWS = Path(__file__).parents[2] / "fsa_jax" / "serving" / "check_sentences.txt"


@pytest.fixture(scope="session")
def texts() -> list[str]:
    """24 of the sentences that exports are checked with."""
    return REVIEWS.read_text(encoding="utf-8").splitlines()[:24]


@pytest.fixture(scope="session")
def vocabulary(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A SentencePiece model of the sentences."""
    return train_vocabulary(tmp_path_factory.mktemp("vocabulary"))


def train_vocabulary(folder: Path) -> Path:
    """Trains a SentencePiece model of the sentences in ``folder``."""
    prefix = folder / "spiece"
    sentencepiece.SentencePieceTrainer.Train(  # pyright: ignore[reportAttributeAccessIssue]
        f"--input={REVIEWS} --model_prefix={prefix} --vocab_size=150 --pad_id=0 --eos_id=1 --unk_id=2 --bos_id=-1 "
        "--hard_vocab_limit=false --user_defined_symbols=|,; --minloglevel=2"
    )
    return prefix.with_suffix(".model")


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The checkpoint of a T5 v1.1 with random weights."""
    directory = tmp_path_factory.mktemp("student")
    return save_weights(directory, 7, jax.tree.map(np.asarray, random_parameters()))


@pytest.fixture(scope="session")
def pairs_checkpoint(vocabulary, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same T5, trained to answer the sentences of the check with one pair, two pairs or nothing."""
    texts = REVIEWS.read_text(encoding="utf-8").splitlines()
    directory = tmp_path_factory.mktemp("pairs")
    parameters = trained_parameters(T5Tokenizer(vocabulary), texts, [pairs_of(text) for text in texts])
    return save_weights(directory, 7, parameters)


def pairs_of(text: str) -> str:
    """An answer that depends only on the length of the sentence, so that a small student learns it in seconds."""
    return "" if len(text) < 50 else "food | positive" if len(text) < 90 else "food | negative ; staff | positive"


CONFIG = T5Config(
    vocab_size=256,
    emb_dim=32,
    num_heads=2,
    num_encoder_layers=1,
    num_decoder_layers=1,
    head_dim=8,
    mlp_dim=48,
    mlp_activations=("gelu", "linear"),
)


def random_parameters() -> Any:
    """Parameters of a T5 of ``CONFIG``."""
    ones = jnp.ones((1, 4), jnp.int32)
    return Transformer(CONFIG).init(jax.random.PRNGKey(3), ones, ones, ones, enable_dropout=False)["params"]


def trained_parameters(tokens: T5Tokenizer, texts: list[str], answers: list[str], steps: int = 300) -> Any:
    """Parameters of a T5 of ``CONFIG`` after a number of steps of Adam on batches of the sentences."""
    inputs = right_padded([tokens.encode_input(text, 40)[0] for text in texts])
    targets = right_padded([tokens.encode_target(answer) for answer in answers])
    before = np.pad(targets, ((0, 0), (1, 0)))[:, :-1]
    module, optimizer = Transformer(CONFIG), optax.adam(optax.cosine_decay_schedule(1e-2, steps))

    def loss(parameters: Any, inputs: Any, before: Any, targets: Any) -> Any:
        scored = module.apply({"params": parameters}, inputs, before, jnp.ones_like(targets), enable_dropout=False)
        logits = cast(jax.Array, scored)  # Flax's type includes the variables that a mutable call returns.
        losses = optax.softmax_cross_entropy_with_integer_labels(logits, targets)
        return (losses * (targets > 0)).sum() / (targets > 0).sum()

    @jax.jit
    def step(parameters: Any, state: Any, *batch: Any) -> tuple[Any, Any]:
        updates, state = optimizer.update(jax.grad(loss)(parameters, *batch), state)
        return optax.apply_updates(parameters, updates), state

    parameters = random_parameters()
    state = optimizer.init(parameters)
    rng = np.random.default_rng(0)
    for _ in range(steps):
        rows = rng.choice(len(texts), min(32, len(texts)), replace=False)
        parameters, state = step(parameters, state, inputs[rows], before[rows], targets[rows])
    return jax.tree.map(np.asarray, parameters)
