"""Writes what the contenders of training_step.py share: weights, examples as tokens, and packed rows.

The folder gets ``examples.npz`` (tokens and lengths of inputs and targets), ``best_fit.npz`` and ``next_fit.npz``
(features of packed rows), ``check_*.npz`` (the first examples packed alike), ``config.json``, ``hf/`` (PyTorch's model
with random weights) and ``weights.npz`` (the same for our network, names joined by ``/``).
"""

# pyright: reportMissingImports=false

from __future__ import annotations

import argparse
import dataclasses
import json
import random
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import seqio
import tensorflow as tf
import torch
from flax import traverse_util
from transformers import T5Config, T5ForConditionalGeneration

from fsa_jax.data import teacher_text
from fsa_jax.data.packing import BestFitEncDecFeatureConverter
from fsa_jax.tokenizers.t5 import T5Tokenizer, find_vocabulary
from fsa_jax.weights.families import open_model
from fsa_jax.weights.hf_mapping import materialise

SIZES: dict[str, dict[str, Any]] = {
    "tiny": {"d_model": 64, "d_kv": 16, "d_ff": 128, "num_layers": 2, "num_heads": 4},
    "small": {"d_model": 512, "d_kv": 64, "d_ff": 2048, "num_layers": 6, "num_heads": 8},
    "base": {"d_model": 768, "d_kv": 64, "d_ff": 3072, "num_layers": 12, "num_heads": 12},
}
"""The published sizes of T5 v1.0 by the names of gin/models/t5_1_0_*.gin."""
LENGTHS = {"inputs": 128, "targets": 400}
EXAMPLES = 2_000
CHECKED = 8


def examples(seed: int) -> Iterator[dict[str, list[int]]]:
    """Tokens of the teacher text in FSA_DATA_DIR, in a random order, repeated with new orders."""
    tokens, draw = T5Tokenizer(find_vocabulary()), random.Random(seed)
    rows = [row for path in teacher_text.files() for row in teacher_text.read(path)]
    made = [
        {
            "inputs": tokens.encode_input(row.review, LENGTHS["inputs"])[0],
            "targets": tokens.encode_input(row.response, LENGTHS["targets"])[0],
        }
        for row in rows
    ]
    while True:
        yield from draw.sample(made, len(made))


def main() -> None:
    """Writes the files."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--size", choices=SIZES, required=True)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--row_lengths", type=int, nargs=2, required=True)
    options = parser.parse_args()
    folder: Path = options.folder
    torch.manual_seed(options.seed)
    settings: dict[str, Any] = {"vocab_size": 32128, "dropout_rate": 0.1, "decoder_start_token_id": 0}
    config = T5Config(**settings, **SIZES[options.size])
    T5ForConditionalGeneration(config).save_pretrained(folder / "hf")
    model = open_model(folder / "hf")
    weights: dict[str, Any] = traverse_util.flatten_dict(materialise(model.parameters(np.float32)), sep="/")
    np.savez(folder / "weights.npz", allow_pickle=False, **weights)
    fields = dataclasses.asdict(model.config).items()
    plain = {name: value for name, value in fields if isinstance(value, int | float | str | tuple)}
    (folder / "config.json").write_text(json.dumps(plain))

    chosen = list(islice(examples(options.seed), EXAMPLES))
    arrays = {}
    for name in LENGTHS:
        arrays[name] = np.concatenate([example[name] for example in chosen])
        arrays[f"{name}_lengths"] = np.array([len(example[name]) for example in chosen])
    np.savez(folder / "examples.npz", **arrays)
    rows = dict(zip(LENGTHS, options.row_lengths, strict=True))
    packings = {
        "best_fit": BestFitEncDecFeatureConverter(pack=True, row_lengths=rows),
        "next_fit": seqio.EncDecFeatureConverter(pack=True),
    }
    spec = {name: tf.TensorSpec([None], tf.int32) for name in LENGTHS}
    for name, converter in packings.items():
        for file, part in ((name, chosen), (f"check_{name}", chosen[:CHECKED])):
            dataset = tf.data.Dataset.from_generator(lambda part=part: iter(part), output_signature=spec)
            packed = list(converter(dataset, LENGTHS).as_numpy_iterator())
            np.savez(
                folder / f"{file}.npz",
                allow_pickle=False,
                **{key: np.stack([row[key] for row in packed]) for key in packed[0]},
            )


if __name__ == "__main__":
    main()
