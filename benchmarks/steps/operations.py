"""Floating-point operations of a training step, forward and backward.

With E inputs and D targets of an example, width d, joined heads h, feed-forward width m and V rows of the vocabulary, a
T5 whose feed-forward layers have one activation multiplies ::

    encoder layer   E (4dh + 2dm)  +  2EEh
    decoder layer   D (6dh + 2dm)  +  2Edh  +  2DDh + 2DEh
    logits          DdV

In a decoder layer, four of the six projections of the targets are those of self-attention, and the cross-attention
projects the inputs to keys and values. Each multiplication is two operations (with the addition), and the backward pass
computes two products for each of the forward pass. Norms, dropout, softmax and the optimizer are not counted.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

FORWARD_AND_BACKWARD = 3


def of_examples(settings: Mapping[str, Any], inputs: np.ndarray, targets: np.ndarray, *, masked: bool = False) -> float:
    """Operations of examples with these lengths.

    Args:
      settings: fields of T5Config or LlamaConfig, and ``network``, ``t5`` or ``llama``.
      inputs: lengths of the inputs in tokens.
      targets: lengths of the targets in tokens.
      masked: whether the pairs count that causal attention masks: they are computed, but not needed.
    """
    inputs, targets = inputs.astype(np.float64), targets.astype(np.float64)
    width, heads = settings["emb_dim"], settings["num_heads"] * settings["head_dim"]
    logits = width * settings["vocab_size"]
    if settings["network"] == "llama":
        keys = settings["num_kv_heads"] * settings["head_dim"]
        layer = 2 * width * heads + 2 * width * keys + 3 * width * settings["mlp_dim"]
        whole = inputs + targets
        linear = settings["num_layers"] * layer * whole + logits * targets
        pairs = settings["num_layers"] * _causal(whole, masked)
    else:
        mlp = (len(settings["mlp_activations"]) + 1) * width * settings["mlp_dim"]
        encoder, decoder = settings["num_encoder_layers"], settings["num_decoder_layers"]
        projections = 2 * width * heads  # of queries and outputs, or of keys and values
        linear = encoder * (2 * projections + mlp) * inputs + decoder * projections * inputs
        linear += decoder * (3 * projections + mlp) * targets + logits * targets
        pairs = encoder * inputs**2 + decoder * (_causal(targets, masked) + inputs * targets)
    # Each pair of tokens has a product with the key and one with the value.
    return float(FORWARD_AND_BACKWARD * 2 * np.sum(linear + 2 * heads * pairs))


def _causal(lengths: np.ndarray, masked: bool) -> np.ndarray:
    """Pairs of tokens in causal attention."""
    return lengths**2 if masked else lengths * (lengths + 1) / 2


def per_target_token(folder: Path) -> float:
    """Operations that each real target token of a folder's examples needs, whatever the padding.

    The model is the one that is configured in the folder.
    """
    settings = json.loads((folder / "config.json").read_text())
    lengths = np.load(folder / "examples.npz")
    inputs, targets = lengths["inputs_lengths"], lengths["targets_lengths"]
    return of_examples(settings, inputs, targets) / float(targets.sum())
