"""Small SeqIO tasks with fixed examples, the same in every process, for runs on two engines."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
import seqio
import tensorflow as tf

VOCABULARY = seqio.PassThroughVocabulary(size=64, eos_id=1)


def examples(rows: int, seed: int) -> list[tuple[list[int], list[int]]]:
    """Inputs of 3 to 9 tokens, and the same backwards."""
    rng = np.random.RandomState(seed)  # its stream is frozen, that of default_rng is not
    inputs = [rng.randint(2, 64, size=rng.randint(3, 10)).tolist() for _ in range(rows)]
    return [(row, row[::-1]) for row in inputs]


def _source(split: str, shuffle_files: bool, seed: int | None = None, *, rows: int) -> tf.data.Dataset:
    del shuffle_files, seed
    inputs, targets = zip(*examples(rows, seed=len(split)), strict=True)
    columns: Any = {"inputs": tf.ragged.constant(inputs, tf.int32), "targets": tf.ragged.constant(targets, tf.int32)}
    return tf.data.Dataset.from_tensor_slices(columns)


def _exact(targets: list, predictions: list) -> dict[str, float]:
    return {"exact": 100.0 * float(np.mean([list(t) == list(p) for t, p in zip(targets, predictions, strict=True)]))}


for name, rows in (("conformance_reverse", 100), ("conformance_one_batch", 8)):
    source: Any = seqio.FunctionDataSource(
        functools.partial(_source, rows=rows), splits=("train", "validation", "test")
    )
    seqio.TaskRegistry.add(
        name,
        source=source,
        preprocessors=[seqio.preprocessors.append_eos_after_trim],
        output_features={
            feature: seqio.Feature(VOCABULARY, add_eos=True, dtype=tf.int32) for feature in ("inputs", "targets")
        },
        metric_fns=[_exact],
    )


def vocabulary() -> seqio.Vocabulary:
    """The vocabulary of every task here, for gin files."""
    return VOCABULARY
