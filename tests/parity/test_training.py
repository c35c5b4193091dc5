"""A hundred steps of the released recipe against PyTorch, and packed decoder-only training against unpacked."""

# pyright: reportMissingImports=false

from __future__ import annotations

import copy
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from small_models import DECODERS, load, padded

from fsa_jax import optim
from fsa_jax.data import teacher_text
from fsa_jax.models.llama.network import LlamaTransformer
from fsa_jax.models.t5.network import Transformer
from fsa_jax.serving.tokenization import T5Tokenization

STEPS = 100
BATCH = 4
PEAK, FINAL = 3e-3, 1e-5


@pytest.fixture(scope="module")
def batches(real_data_dir) -> list[tuple[np.ndarray, np.ndarray]]:
    """Reviews and teacher text in T5's ids, each batch padded to its longest row, cut to keep the test short."""
    tokens = T5Tokenization(real_data_dir / "t5_vocab/spiece.model")
    rows = list(teacher_text.read(real_data_dir / "teacher/mixtral_8x7b_reviews.jsonl"))
    made = []
    for step in range(STEPS):
        chosen = [rows[(step * BATCH + i) % len(rows)] for i in range(BATCH)]
        inputs, _ = padded([tokens.encode_input(row.review, 48)[0] for row in chosen])
        targets, _ = padded([tokens.encode_input(row.response, 48)[0] for row in chosen])
        made.append((inputs, targets))
    return made


class RecipeOptimizer:
    """The released recipe's optimizer in PyTorch, from its description: RMS-scaled AdamW, clip 1, cosine."""

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
    """Losses per target token of the steps, padding masked."""
    import torch

    model = copy.deepcopy(model).train()
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
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


def jax_losses(directory: Any, batches: list[tuple[np.ndarray, np.ndarray]]) -> list[float]:
    """The same with our network and optimizer."""
    config, parameters = load(directory)
    module = Transformer(config)
    recipe = optim.rms_scaled_adamw(optim.cosine(STEPS, PEAK, FINAL))
    state = recipe.init(parameters)
    width = max(max(inputs.shape[1], targets.shape[1]) for inputs, targets in batches)

    @jax.jit
    def step(parameters: Any, state: Any, inputs: jax.Array, targets: jax.Array) -> tuple[Any, Any, jax.Array]:
        def loss_of(parameters: Any) -> jax.Array:
            starts = jnp.pad(targets, ((0, 0), (1, 0)))[:, :-1]
            logits = module.apply({"params": parameters}, inputs, starts, targets, enable_dropout=False)
            losses = optax.softmax_cross_entropy_with_integer_labels(jnp.asarray(logits), targets)
            return jnp.sum(losses * (targets > 0)) / jnp.sum(targets > 0)

        loss, gradients = jax.value_and_grad(loss_of)(parameters)
        updates, state = recipe.update(gradients, state, parameters)
        return optax.apply_updates(parameters, updates), state, loss

    losses = []
    for inputs, targets in batches:
        inputs, targets = (np.pad(x, ((0, 0), (0, width - x.shape[1]))) for x in (inputs, targets))
        parameters, state, loss = step(parameters, state, inputs, targets)
        losses.append(float(loss))
    return losses


def test_the_released_recipe_gives_pytorch_s_losses(torch_model, batches):
    model, directory = torch_model("t5_32101")
    expected, found = np.array(torch_losses(model, batches)), np.array(jax_losses(directory, batches))
    assert expected[-10:].mean() < 0.8 * expected[:10].mean(), "the comparison needs a model that learns"
    np.testing.assert_allclose(found, expected, rtol=1e-3)


@pytest.mark.parametrize("family", DECODERS)
def test_packed_examples_have_the_loss_of_unpacked_ones(family, torch_model, sentence_ids):
    """Prompt and response pairs, several to a row, against PyTorch's mean over the pairs one by one."""
    import torch

    model, directory = torch_model(family)
    # Id 0 stands among the tokens: it is an ordinary token of these families.
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

    from fsa_jax.data.chat import ChatFeatureConverter

    dataset = tf.data.Dataset.from_generator(
        lambda: ({"inputs": prompt, "targets": response} for prompt, response in pairs),
        output_signature={name: tf.TensorSpec([None], tf.int32) for name in ("inputs", "targets")},
    )
    packed = list(ChatFeatureConverter(pack=True)(dataset, {"inputs": 64, "targets": 64}).as_numpy_iterator())
    assert max(row["decoder_segment_ids"].max() for row in packed) > 1, "the comparison needs packed rows"
    batch = {name: np.stack([row[name] for row in packed]) for name in packed[0]}
    config, parameters = load(directory)
    logits = LlamaTransformer(config).apply(
        {"params": parameters},
        batch["decoder_input_tokens"],
        batch["decoder_target_tokens"],
        decoder_segment_ids=batch["decoder_segment_ids"],
        decoder_positions=batch["decoder_positions"],
        enable_dropout=False,
    )
    losses = optax.softmax_cross_entropy_with_integer_labels(jnp.asarray(logits), batch["decoder_target_tokens"])
    weights = batch["decoder_loss_weights"]
    assert weights.sum() == tokens
    assert float((losses * weights).sum()) / tokens == pytest.approx(expected / tokens, abs=1e-4)
