"""Writes a model with random weights, once for PyTorch and once for our networks.

The folder gets ``hf/`` (the model as transformers saves it), ``weights.npz`` (the same for our network, names joined by
``/``) and ``config.json`` (the configuration of our network; ``network`` names its package). Neither TensorFlow nor
SeqIO is imported.
"""

# pyright: reportMissingImports=false

from __future__ import annotations

import argparse
import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from flax import traverse_util

from fsa_jax.weights.families import open_model
from fsa_jax.weights.hf_mapping import materialise


def _t5(d_model: int, d_ff: int, num_layers: int, num_heads: int, d_kv: int = 64) -> transformers.PretrainedConfig:
    # Any, because T5Config passes other settings on.
    settings: dict[str, Any] = {"dropout_rate": 0.1, "decoder_start_token_id": 0, "vocab_size": VOCABULARY}
    return transformers.T5Config(
        d_model=d_model, d_kv=d_kv, d_ff=d_ff, num_layers=num_layers, num_heads=num_heads, **settings
    )


def _qwen(width: int, mlp: int, layers: int, heads: int, rows: int) -> transformers.PretrainedConfig:
    """A Qwen2.5 with two key and value heads. Without special tokens, so that any token id can be in a text."""
    return transformers.Qwen2Config(
        vocab_size=rows,
        hidden_size=width,
        intermediate_size=mlp,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=2,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=None,
        rope_parameters={"rope_type": "default", "rope_theta": 1_000_000.0},
    )


def _llama_1b() -> transformers.PretrainedConfig:
    return transformers.LlamaConfig(
        vocab_size=128_256,
        hidden_size=2048,
        intermediate_size=8192,
        num_hidden_layers=16,
        num_attention_heads=32,
        num_key_value_heads=8,
        head_dim=64,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=None,
        rope_parameters={"rope_type": "default", "rope_theta": 500_000.0},
    )


VOCABULARY = 32_128
"""Rows of T5's vocabulary, whose tokens all models read."""
MODELS: dict[str, dict[str, Any]] = {
    "t5": {
        "tiny": lambda: _t5(64, 128, num_layers=1, num_heads=4, d_kv=16),
        "small": lambda: _t5(512, 2048, num_layers=6, num_heads=8),
        "base": lambda: _t5(768, 3072, num_layers=12, num_heads=12),
    },
    "decoder": {
        "tiny": lambda: _qwen(64, 128, layers=1, heads=4, rows=VOCABULARY),
        "100m": lambda: _qwen(768, 2048, layers=12, heads=12, rows=VOCABULARY),
        "0.5b": lambda: _qwen(896, 4864, layers=24, heads=14, rows=151_936),
        "1b": _llama_1b,
    },
}
"""T5 v1.0 by the names of gin/models/t5_1_0_*.gin; decoder-only models of about 100 million parameters in the form of
Qwen2.5, and with the sizes and vocabularies of Qwen2.5-0.5B and Llama-3.2-1B."""


def write(folder: Path, model: str, size: str, seed: int) -> None:
    """Writes the files of ``MODELS[model][size]``."""
    torch.manual_seed(seed)
    # Any, because transformers' automatic classes have no types.
    automatic: Any = transformers.AutoModelForSeq2SeqLM if model == "t5" else transformers.AutoModelForCausalLM
    automatic.from_config(MODELS[model][size]()).save_pretrained(folder / "hf")
    saved = open_model(folder / "hf")
    weights: dict[str, Any] = traverse_util.flatten_dict(materialise(saved.parameters(np.float32)), sep="/")
    np.savez(folder / "weights.npz", allow_pickle=False, **weights)
    fields = dataclasses.asdict(saved.config).items()
    plain = {name: value for name, value in fields if isinstance(value, int | float | str | tuple)}
    network = "llama" if saved.family.decoder_only else "t5"
    (folder / "config.json").write_text(json.dumps({"network": network, **plain}))


def main() -> None:
    """Writes the files."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--model", choices=MODELS, required=True)
    parser.add_argument("--size", required=True)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    if options.size not in MODELS[options.model]:
        parser.error(f"--size of {options.model} is one of {', '.join(MODELS[options.model])}")
    write(options.folder, options.model, options.size, options.seed)


if __name__ == "__main__":
    main()
