"""Packed rows of real text, as bytes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import seqio
import tensorflow as tf

TEXT = Path(__file__).parents[2] / "fsa_jax" / "serving" / "check_sentences.txt"
VOCABULARY = seqio.ByteVocabulary()


def batches(converter: Any, lengths: Mapping[str, int], rows: int, count: int) -> list[dict[str, np.ndarray]]:
    """Batches of a feature converter: up to 40 bytes of a sentence as inputs, up to 100 as targets."""
    lines = TEXT.read_text("utf-8").splitlines()

    def examples() -> Iterator[dict[str, Sequence[int]]]:
        while True:
            for line in lines:
                ids = VOCABULARY.encode(line)
                yield {"inputs": ids[:40], "targets": ids[:100]}

    spec = {feature: tf.TensorSpec([None], tf.int32) for feature in ("inputs", "targets")}
    dataset = tf.data.Dataset.from_generator(examples, output_signature=spec)
    return list(converter(dataset, lengths).batch(rows).take(count).as_numpy_iterator())
