"""Compares 100 steps of the released recipe with PyTorch, and packed with unpacked decoder-only training."""

# pyright: reportMissingImports=false

from __future__ import annotations

import copy
import dataclasses
import math
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from small_models import DECODERS, load, padded

from fsa_base.networks.llama.network import LlamaTransformer
from fsa_base.networks.t5.network import Transformer
from fsa_jax.tokenizers.t5 import T5Tokenizer
from fsa_jax.training import optim
from fsa_jax.weights.import_model import import_model
from fsa_jax.weights.t5 import config_from_parameters
from fsa_jax.weights.weight_checkpoints import find_checkpoint, load_weights
from t5x import models, optimizers
from t5x.metrics import summarize
from t5x.partitioning import PjitPartitioner, make_mesh
from t5x.train_state import FlaxOptimTrainState
from t5x.trainer import Trainer

STEPS = 100
BATCH = 2
PEAK, FINAL = 3e-3, 1e-5


@pytest.fixture(scope="module")
def batches(texts) -> list[tuple[np.ndarray, np.ndarray]]:
    """T5 ids of reviews and teacher text, cut as in the recipe, each batch padded to its longest row."""
    tokens, rows = T5Tokenizer(texts.vocabulary), texts.rows
    made = []
    for step in range(STEPS):
        chosen = [rows[(step * BATCH + i) % len(rows)] for i in range(BATCH)]
        inputs, _ = padded([tokens.encode_input(row.review, 128)[0] for row in chosen])
        targets, _ = padded([tokens.encode_input(row.response, 400)[0] for row in chosen])
        made.append((inputs, targets))
    return made


class RecipeOptimizer:
    """The optimizer of the released recipe in PyTorch: RMS-scaled AdamW, clipping at norm 1, cosine schedule."""

    def __init__(self, parameters: list[Any]) -> None:
        import torch

        self.parameters = parameters
        self.first = [torch.zeros_like(p) for p in parameters]
        self.second = [torch.zeros_like(p) for p in parameters]
        self.step_number = 0

    def step(self) -> None:
        import torch

        rate = FINAL + (PEAK - FINAL) * 0.5 * (1 + math.cos(math.pi * self.step_number / STEPS))
        self.step_number += 1
        torch.nn.utils.clip_grad_norm_(self.parameters, 1.0)
        correction = math.sqrt(1 - 0.999**self.step_number) / (1 - 0.9**self.step_number)
        with torch.no_grad():
            for p, m, v in zip(self.parameters, self.first, self.second, strict=True):
                m.mul_(0.9).add_(p.grad, alpha=0.1)
                v.mul_(0.999).addcmul_(p.grad, p.grad, value=0.001)
                rms = max(1e-3, float(p.square().mean().sqrt()))
                p.addcdiv_(m, v.sqrt() + 1e-6, value=-rate * correction * rms)
                p.grad = None


def torch_losses(model: Any, batches: list[tuple[np.ndarray, np.ndarray]]) -> list[float]:
    """The loss per target token of each step, without padding."""
    import torch

    model = copy.deepcopy(model).eval()  # No dropout: the two libraries draw it differently.
    optimizer, losses = RecipeOptimizer(list(model.parameters())), []
    for inputs, targets in batches:
        labels = torch.tensor(targets, dtype=torch.long)
        logits = model(
            input_ids=torch.tensor(inputs, dtype=torch.long),
            attention_mask=torch.tensor(inputs > 0).long(),
            decoder_input_ids=torch.nn.functional.pad(labels, (1, 0))[:, :-1],
        ).logits
        loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), labels.flatten(), ignore_index=0)
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    return losses


def engine_losses(checkpoint: Path, batches: list[tuple[np.ndarray, np.ndarray]]) -> list[float]:
    """The same losses from the engine's trainer, started from an imported checkpoint."""
    parameters = load_weights(checkpoint)
    config = dataclasses.replace(config_from_parameters(parameters), dropout_rate=0.0)
    schedule: Any = optim.cosine(STEPS, PEAK, FINAL)
    optimizer = optimizers.OptaxWrapper(optim.rms_scaled_adamw(schedule))
    no_vocabulary: Any = None  # the loss needs none
    model = models.EncoderDecoderModel(
        Transformer(config),
        no_vocabulary,
        no_vocabulary,
        optimizer,
        loss_normalizing_factor="NUM_REAL_TARGET_TOKENS",
    )
    shapes: dict[str, Any] = {"encoder_input_tokens": (1, 1), "decoder_input_tokens": (1, 1)}
    variables = model.get_initial_variables(jax.random.PRNGKey(0), shapes)
    partitioner = PjitPartitioner(num_partitions=1)
    partitioner.mesh = make_mesh(jax.devices()[:1])
    state = FlaxOptimTrainState.create(optimizer, {**variables, "params": parameters})
    axes = partitioner.get_mesh_axes(state)
    trainer = Trainer(
        model,
        jax.device_put(state, partitioner.shardings(axes)),
        partitioner,
        eval_names=[],
        summary_dir=None,
        train_state_axes=axes,
        rng=jax.random.PRNGKey(0),
        learning_rate_fn=schedule,
        num_microbatches=None,
    )
    widths = [max(rows.shape[1] for rows in side) for side in zip(*batches, strict=True)]
    losses = []
    for rows in batches:
        # All batches get one shape, so that the step is compiled once; in PyTorch each is as long as its longest row.
        inputs, targets = (np.pad(x, ((0, 0), (0, n - x.shape[1]))) for x, n in zip(rows, widths, strict=True))
        batch = {
            "encoder_input_tokens": inputs,
            "decoder_input_tokens": np.pad(targets, ((0, 0), (1, 0)))[:, :-1],
            "decoder_target_tokens": targets,
            "decoder_loss_weights": (targets > 0).astype(np.int32),
        }
        losses.append(summarize(trainer.train_step(batch), seconds=1.0)["loss"])
    return losses


def test_the_released_recipe_gives_pytorch_s_losses(torch_model, batches, tmp_path):
    model, directory = torch_model("t5_32101")
    import_model(str(directory), tmp_path / "imported")
    expected = np.array(torch_losses(model, batches))
    found = np.array(engine_losses(find_checkpoint(tmp_path / "imported"), batches))
    assert expected[-10:].mean() < 0.9 * expected[:10].mean(), "the comparison needs a model that learns"
    np.testing.assert_allclose(found, expected, rtol=1e-3)


@pytest.mark.parametrize("family", DECODERS)
def test_packed_examples_have_the_loss_of_unpacked_ones(family, torch_model, sentence_ids):
    """Several pairs of prompt and response per row, compared with PyTorch's mean over the single pairs."""
    import torch

    model, directory = torch_model(family)
    # Id 0 is among the tokens: it is an ordinary token of these families.
    rows = [[token % model.config.vocab_size for token in ids] for ids in sentence_ids[20:32]]
    pairs = [(row[: len(row) // 2], [0, *row[len(row) // 2 :]]) for row in rows]
    expected, tokens = 0.0, 0
    with torch.no_grad():
        for prompt, response in pairs:
            whole = torch.tensor([[*prompt, *response]])
            labels = whole.clone()
            labels[:, : len(prompt)] = -100
            expected += float(model(input_ids=whole, labels=labels).loss) * len(response)
            tokens += len(response)
    import tensorflow as tf

    from fsa_jax.data.packing import BestFitChatFeatureConverter

    dataset = tf.data.Dataset.from_generator(
        lambda: ({"inputs": prompt, "targets": response} for prompt, response in pairs),
        output_signature={name: tf.TensorSpec([None], tf.int32) for name in ("inputs", "targets")},
    )
    packed = list(BestFitChatFeatureConverter(pack=True)(dataset, {"inputs": 64, "targets": 64}).as_numpy_iterator())
    assert max(row["decoder_segment_ids"].max() for row in packed) > 1, "the comparison needs packed rows"
    batch = {name: np.stack([row[name] for row in packed]) for name in packed[0]}
    config, parameters = load(directory)
    assert batch["decoder_loss_weights"].sum() == tokens
    no_vocabulary: Any = None  # the loss needs none
    engine = models.DecoderOnlyModel(
        LlamaTransformer(config), no_vocabulary, None, loss_normalizing_factor="NUM_REAL_TARGET_TOKENS"
    )
    assert float(engine.loss_fn(parameters, batch, None)[0]) == pytest.approx(expected / tokens, abs=1e-4)
    # The same without the borders of the examples, to show that these rows would reveal attention across examples.
    leaking = {**batch, "decoder_segment_ids": np.minimum(batch["decoder_segment_ids"], 1)}
    assert abs(float(engine.loss_fn(parameters, leaking, None)[0]) - expected / tokens) > 1e-2
