"""SeqIO tasks small enough to train on in seconds, registered on import."""

from __future__ import annotations

import functools

import numpy as np
import seqio
import tensorflow as tf

VOCABULARY = seqio.PassThroughVocabulary(size=64, eos_id=1)
FEATURES = {
    "inputs": seqio.Feature(VOCABULARY, add_eos=True, dtype=tf.int32),
    "targets": seqio.Feature(VOCABULARY, add_eos=True, dtype=tf.int32),
}


def _examples(split: str, shuffle_files: bool, seed: int | None = None, rows: int = 60) -> tf.data.Dataset:
    """Sequences of 3 to 8 tokens; the target is the input backwards."""
    del shuffle_files, seed
    rng = np.random.default_rng(len(split))
    inputs = [rng.integers(2, 64, size=rng.integers(3, 9)) for _ in range(rows)]
    ragged = tf.ragged.constant([row.tolist() for row in inputs], dtype=tf.int32, ragged_rank=1)
    return tf.data.Dataset.from_tensor_slices(ragged).map(
        lambda row: {"inputs": row, "targets": tf.reverse(row, axis=[0])}
    )


def _first_token_right(targets: list, predictions: list) -> dict[str, float]:
    right = [len(p) > 0 and len(t) > 0 and p[0] == t[0] for t, p in zip(targets, predictions, strict=True)]
    return {"first_token": 100.0 * sum(right) / max(1, len(right))}


def _mean_score(targets: list, scores: list[float]) -> dict[str, float]:
    del targets
    return {"mean_score": float(np.mean(scores))}


def _register(name: str, rows: int = 60, keep: bool = True, preprocessors: tuple = (), scored: bool = True) -> None:
    filters = [] if keep else [lambda dataset: dataset.filter(lambda example: False)]
    seqio.TaskRegistry.add(
        name,
        source=seqio.FunctionDataSource(  # type: ignore[arg-type]
            functools.partial(_examples, rows=rows),
            splits=("train", "validation", "test"),
            num_input_examples=dict.fromkeys(("train", "validation", "test"), rows),
        ),
        preprocessors=[*preprocessors, *filters, seqio.preprocessors.append_eos],
        output_features=FEATURES,
        metric_fns=[_first_token_right, _mean_score] if scored else [],
    )


def _noise(dataset: tf.data.Dataset) -> tf.data.Dataset:
    """Replaces one token by a random one: a preprocessor whose seed must be right after a resumption."""

    @seqio.map_over_dataset(num_seeds=1)
    def replace(example: dict, seed: tf.Tensor) -> dict:
        token = tf.random.stateless_uniform([1], seed, 2, 64, tf.int32)
        return {**example, "inputs": tf.concat([token, example["inputs"][1:]], axis=0)}

    return replace(dataset)  # type: ignore[call-arg]


_register("tiny_reverse")
_register("tiny_noisy", preprocessors=(_noise,))
_register("tiny_unscored", scored=False)
_register("tiny_cacheable", preprocessors=(seqio.CacheDatasetPlaceholder(),))
_register("tiny_empty", keep=False)
_register("tiny_thirteen", rows=13)
_register("tiny_thirty_seven", rows=37)
_register("tiny_nothing", rows=0)
seqio.MixtureRegistry.add("tiny_mixture", [("tiny_reverse", 1.0), ("tiny_noisy", 1.0)])
seqio.MixtureRegistry.add("tiny_unequal", [("tiny_thirteen", 1.0), ("tiny_thirty_seven", 1.0)])


def vocabulary() -> seqio.Vocabulary:
    """The vocabulary of every task here, for gin files."""
    return VOCABULARY
