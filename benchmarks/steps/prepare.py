"""Writes the text that the contenders of training_step.py share: examples as tokens, and packed rows.

The folder gets ``examples.npz`` (tokens and lengths of inputs and targets), ``best_fit.npz`` and ``next_fit.npz``
(features of packed rows), and ``check_*.npz`` (the first examples packed alike). The tokens are T5's, for all models.
For a decoder-only model a row holds inputs and targets together, as for the students of gin/models/chat.gin; the token
that ends the inputs stands in place of the chat template.
"""

from __future__ import annotations

import argparse
import random
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import numpy as np
import seqio
import tensorflow as tf

from fsa_jax.data import teacher_text
from fsa_jax.data.chat import ChatFeatureConverter
from fsa_jax.data.packing import BestFitChatFeatureConverter, BestFitEncDecFeatureConverter
from fsa_jax.tokenizers.t5 import T5Tokenizer, find_vocabulary

LENGTHS = {"inputs": 128, "targets": 400}
EXAMPLES = 2_000
CHECKED = 3
"""Examples whose loss all contenders must find; all of their logits are in memory at once."""


def examples(seed: int) -> Iterator[dict[str, list[int]]]:
    """Tokens of the teacher text in FSA_DATA_DIR, in a random order, repeated with new orders."""
    tokens, draw = T5Tokenizer(find_vocabulary()), random.Random(seed)
    rows = [row for path in teacher_text.files() for row in teacher_text.read(path)]
    while True:
        for row in draw.sample(rows, len(rows)):
            yield {
                "inputs": tokens.encode_input(row.review, LENGTHS["inputs"])[0],
                "targets": tokens.encode_input(row.response, LENGTHS["targets"])[0],
            }


def main() -> None:
    """Writes the files."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--model", choices=("t5", "decoder"), required=True)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--row_lengths", type=int, nargs=2, required=True)
    options = parser.parse_args()
    folder: Path = options.folder
    chosen = list(islice(examples(options.seed), EXAMPLES))
    arrays = {}
    for name in LENGTHS:
        arrays[name] = np.concatenate([example[name] for example in chosen])
        arrays[f"{name}_lengths"] = np.array([len(example[name]) for example in chosen])
    np.savez(folder / "examples.npz", **arrays)
    rows = dict(zip(LENGTHS, options.row_lengths, strict=True))
    best_fit, next_fit = {
        "t5": (BestFitEncDecFeatureConverter, seqio.EncDecFeatureConverter),
        "decoder": (BestFitChatFeatureConverter, ChatFeatureConverter),
    }[options.model]
    packings = {"best_fit": best_fit(pack=True, row_lengths=rows), "next_fit": next_fit(pack=True)}
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
