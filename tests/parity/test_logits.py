"""Compares logits of imported weights with PyTorch transformers, on real sentences with padding."""

# pyright: reportMissingImports=false

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
import pytest
from small_models import DECODERS, T5_FAMILIES, TIED_V1_1, load, padded, token_rows

from fsa_base.networks.llama.network import LlamaTransformer
from fsa_base.networks.t5.network import Transformer

TOLERANCE = 1e-4


@pytest.mark.parametrize("family", [*T5_FAMILIES, TIED_V1_1])
def test_t5_logits(family, torch_model, sentence_ids):
    import torch

    model, directory = torch_model(family)
    rows = model.config.vocab_size
    inputs, mask = padded(token_rows(sentence_ids, rows))
    targets, _ = padded([row[::-1][:20] for row in token_rows(sentence_ids, rows)])
    starts = np.pad(targets, ((0, 0), (1, 0)))[:, :-1]
    with torch.no_grad():
        expected = model(
            input_ids=torch.tensor(inputs, dtype=torch.long),
            attention_mask=torch.tensor(mask),
            decoder_input_ids=torch.tensor(starts, dtype=torch.long),
        ).logits.numpy()
    config, parameters = load(directory)
    logits = Transformer(config).apply({"params": parameters}, inputs, starts, targets, enable_dropout=False)
    assert logits.shape[-1] == (32128 if family == "t5_32101" else 512)
    real = targets > 0
    np.testing.assert_allclose(np.asarray(logits)[..., :rows][real], expected[real], atol=TOLERANCE, rtol=0)


@pytest.mark.parametrize("left", [False, True], ids=["right-padded", "left-padded"])
@pytest.mark.parametrize("family", DECODERS)
def test_decoder_logits(family, left, torch_model, sentence_ids):
    import torch

    model, directory = torch_model(family)
    inputs, mask = padded(token_rows(sentence_ids, model.config.vocab_size), left=left)
    with torch.no_grad():
        positions = np.maximum(np.cumsum(mask, axis=1) - 1, 0)
        expected = model(
            input_ids=torch.tensor(inputs, dtype=torch.long),
            attention_mask=torch.tensor(mask),
            position_ids=torch.tensor(positions, dtype=torch.long),
        ).logits.numpy()
    config, parameters = load(directory)
    logits = LlamaTransformer(config).apply({"params": parameters}, inputs, decoder_segment_ids=jnp.asarray(mask))
    np.testing.assert_allclose(np.asarray(logits)[mask > 0], expected[mask > 0], atol=TOLERANCE, rtol=0)


@pytest.mark.parametrize("family", ["llama_3_2", "qwen3"])
def test_scanned_layers_and_rematerialisation_change_nothing(family, torch_model, sentence_ids):
    _, directory = torch_model(family)
    config, parameters = load(directory)
    stacked_config, stacked = load(directory, scan_layers=True)
    inputs, _ = padded(token_rows(sentence_ids[:8], config.vocab_size))
    logits = LlamaTransformer(config).apply({"params": parameters}, inputs)
    scanned = type(config)(**{**vars(stacked_config), "scan_layers": True, "remat": True})
    again = LlamaTransformer(scanned).apply({"params": stacked}, inputs)
    np.testing.assert_allclose(np.asarray(again), np.asarray(logits), atol=1e-5, rtol=0)
