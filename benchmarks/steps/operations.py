"""Floating-point operations that the real tokens of a training step need, forward and backward, whatever the padding.

A product of matrices has 2 operations for each of its multiplications, and 2 such products in the backward pass. Of
causal attention only the pairs of tokens that attend are counted. Norms, dropout, softmax and the optimizer are not.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

FORWARD_AND_BACKWARD = 3


def of_examples(settings: Mapping[str, Any], inputs: np.ndarray, targets: np.ndarray) -> float:
    """Operations of examples with these lengths.

    Args:
      settings: fields of T5Config or LlamaConfig, and ``network``, ``t5`` or ``llama``.
      inputs: lengths of the inputs in tokens.
      targets: lengths of the targets in tokens.
    """
    inputs, targets = inputs.astype(np.float64), targets.astype(np.float64)
    width, heads = settings["emb_dim"], settings["num_heads"] * settings["head_dim"]
    logits = width * settings["vocab_size"]
    if settings["network"] == "llama":
        keys = settings["num_kv_heads"] * settings["head_dim"]
        layer = 2 * width * heads + 2 * width * keys + 3 * width * settings["mlp_dim"]
        whole = inputs + targets
        linear = settings["num_layers"] * layer * whole + logits * targets
        pairs = settings["num_layers"] * _causal(whole)
    else:
        mlp = (len(settings["mlp_activations"]) + 1) * width * settings["mlp_dim"]
        encoder, decoder = settings["num_encoder_layers"], settings["num_decoder_layers"]
        projections = 2 * width * heads  # of queries and outputs, or of keys and values
        linear = encoder * (2 * projections + mlp) * inputs + decoder * projections * inputs
        linear += decoder * (3 * projections + mlp) * targets + logits * targets
        pairs = encoder * inputs**2 + decoder * (_causal(targets) + inputs * targets)
    # Each pair of tokens has a product with the key and one with the value.
    return float(FORWARD_AND_BACKWARD * 2 * np.sum(linear + 2 * heads * pairs))


def _causal(lengths: np.ndarray) -> np.ndarray:
    return lengths * (lengths + 1) / 2


def per_target_token(folder: Path) -> float:
    """Operations for each real target token of the examples in a folder, with the model that is configured there."""
    settings = json.loads((folder / "config.json").read_text())
    lengths = np.load(folder / "examples.npz")
    inputs, targets = lengths["inputs_lengths"], lengths["targets_lengths"]
    return of_examples(settings, inputs, targets) / float(targets.sum())
