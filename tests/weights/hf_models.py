"""Writes small models as Hugging Face files, without PyTorch."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from fsa_jax.weights.families import family_of
from fsa_jax.weights.hf_files import SHARD_BYTES, Lazy, write_directory

T5 = {
    "model_type": "t5",
    "vocab_size": 32101,
    "d_model": 16,
    "d_kv": 4,
    "d_ff": 24,
    "num_layers": 2,
    "num_heads": 2,
    "feed_forward_proj": "relu",
}
QWEN3 = {
    "model_type": "qwen3",
    "vocab_size": 96,
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "tie_word_embeddings": True,
    "rope_theta": 1000000.0,
}


def write_model(directory: Path, config: dict[str, Any], seed: int = 0, shard_bytes: int = SHARD_BYTES) -> None:
    """Writes random weights with the family's tensor names; a decoder-only model also gets a tokenizer of letters."""
    family = family_of(config)
    ours, generator = family.config(config, None), np.random.default_rng(seed)
    tensors = {}
    for leaf in family.leaves(ours):
        shape = leaf.shape[::-1] if leaf.transpose else leaf.shape
        shape = (config["vocab_size"], *shape[1:]) if leaf.padded else shape
        values = generator.standard_normal(shape, dtype=np.float32)
        tensors[leaf.tensor] = Lazy(shape, np.dtype(np.float32), lambda values=values: values)
    directory.mkdir(parents=True, exist_ok=True)
    write_directory(directory, tensors, shard_bytes=shard_bytes)
    (directory / "config.json").write_text(json.dumps(config))
    if family.name != "T5":
        vocab = {chr(33 + i): i for i in range(90)}
        (directory / "tokenizer.json").write_text(json.dumps({"model": {"type": "BPE", "vocab": vocab}}))
