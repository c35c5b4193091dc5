"""An encoder-decoder of a few thousand numbers that compiles in a moment, with logical axes on every parameter."""

from __future__ import annotations

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from flax.linen.partitioning import param_with_axes, with_sharding_constraint

from t5x.models import EncoderDecoderModel
from t5x.optimizers import create_learning_rate_scheduler
from t5x.partitioning import PjitPartitioner
from t5x.train_state import FlaxOptimTrainState
from t5x.trainer import Trainer

VOCAB = 32


class TinyVocabulary:
    """What a model reads of a vocabulary."""

    eos_id = 1
    vocab_size = VOCAB


class TinyNetwork(nn.Module):
    """Each target token sees its predecessor and the mean of the inputs; one hidden layer."""

    dropout_rate: float = 0.0
    counts_calls: bool = False

    @nn.compact
    def __call__(self, encoder_input_tokens, decoder_input_tokens, decoder_target_tokens, *, enable_dropout, **_):
        init = nn.initializers.normal(0.3)
        embedding = param_with_axes("embedding", init, (VOCAB, 16), jnp.float32, axes=("vocab", "embed"))
        inner = param_with_axes("inner", init, (16, 24), jnp.float32, axes=("embed", "mlp"))
        outer = param_with_axes("outer", init, (24, 16), jnp.float32, axes=("mlp", "embed"))
        if self.counts_calls:
            calls = self.variable("statistics", "calls", lambda: jnp.zeros((), jnp.int32))
            if enable_dropout:
                calls.value += 1
        inputs = jnp.mean(embedding[encoder_input_tokens.astype(jnp.int32)], axis=1, keepdims=True)
        hidden = embedding[decoder_input_tokens.astype(jnp.int32)] + inputs
        hidden = with_sharding_constraint(hidden, ("batch", "length", "embed"))
        hidden = nn.Dropout(self.dropout_rate, deterministic=not enable_dropout)(hidden)
        hidden = hidden + nn.relu(hidden @ inner) @ outer
        return hidden @ embedding.T


def tiny_model(optimizer_def=None, dropout_rate: float = 0.0, counts_calls: bool = False, **options):
    """An EncoderDecoderModel of :class:`TinyNetwork`."""
    network = TinyNetwork(dropout_rate, counts_calls)
    return EncoderDecoderModel(network, TinyVocabulary(), TinyVocabulary(), optimizer_def, **options)


def tiny_batch(examples: int = 8, seed: int = 0, packed: bool = False) -> dict[str, np.ndarray]:
    """A batch of random tokens whose targets have 1 to 6 tokens; packed, two of them a row."""
    random = np.random.RandomState(seed)
    targets = np.zeros((examples, 12), np.int32)
    segments = np.zeros_like(targets)
    for row in range(examples):
        first, second = random.randint(1, 7, size=2)
        count = first + second if packed else first
        targets[row, :count] = random.randint(2, VOCAB, count)
        segments[row, :count] = np.where(np.arange(count) < first, 1, 2)
    batch = {
        "encoder_input_tokens": random.randint(2, VOCAB, (examples, 10)).astype(np.int32),
        "decoder_input_tokens": np.pad(targets, ((0, 0), (1, 0)))[:, :-1],
        "decoder_target_tokens": targets,
        "decoder_loss_weights": (targets > 0).astype(np.int32),
    }
    if packed:
        batch |= {"decoder_segment_ids": segments, "encoder_segment_ids": np.ones((examples, 10), np.int32)}
    return batch


def tiny_variables(model, batch):
    """Initial variables of ``model`` for batches such as ``batch``."""
    shapes = {name: value.shape for name, value in batch.items()}
    return model.get_initial_variables(jax.random.PRNGKey(0), shapes)


def tiny_trainer(model, partitioner: PjitPartitioner, batch=None, learning_rate: float = 1.0, **options) -> Trainer:
    """A trainer of ``model`` at its initial parameters, laid out as ``partitioner`` says, on one process or several."""

    def initialize():
        return FlaxOptimTrainState.create(model.optimizer_def, tiny_variables(model, batch or tiny_batch()))

    axes = partitioner.get_mesh_axes(jax.eval_shape(initialize))
    constant = create_learning_rate_scheduler("constant", base_learning_rate=learning_rate)
    return Trainer(
        model,
        partitioner.partition(initialize, (), axes)(),
        partitioner,
        eval_names=[],
        summary_dir=None,
        train_state_axes=axes,
        rng=jax.random.PRNGKey(1),
        **{"learning_rate_fn": constant, "num_microbatches": None, **options},
    )
