"""How SeqIO tasks are put together here; tasks.py registers them."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any

import seqio
import tensorflow as tf

from fsa_jax.data.sources import CODECS, SMALL, FsaSource
from fsa_jax.data.vocabulary import ReviewVocabulary
from fsa_jax.evaluation.task_metrics import pair_scores, read_pairs

PREPROCESSORS = (
    seqio.preprocessors.tokenize,
    seqio.CacheDatasetPlaceholder(),
    seqio.preprocessors.append_eos_after_trim,
)


class OrderedTask(seqio.Task):
    """A task whose cache is read in the order of the source, so that runs with and without the cache are the same.

    A cache is written in parallel, into 64 files unless told otherwise: its own order means nothing. Caches of more
    than ``SMALL`` examples are read as they stand.
    """

    def _get_cached_source(self, split: str, file_shuffle_buffer_size: int | None = None) -> Any:
        source = super()._get_cached_source(split, file_shuffle_buffer_size)
        small = self.get_cached_stats(split)["examples"] <= SMALL
        return _InSourceOrder(source) if small else source


class _InSourceOrder(seqio.DataSource):
    """A cached source sorted by ``row``."""

    def __init__(self, cached: seqio.DataSource) -> None:
        super().__init__(splits=cached.splits)
        self._cached = cached

    @property
    def supports_arbitrary_sharding(self) -> bool:
        return False

    def list_shards(self, split: str) -> list[str]:
        return [split]

    def num_input_examples(self, split: str) -> int | None:
        return self._cached.num_input_examples(split)

    def get_dataset(
        self,
        split: str = "train",
        shuffle: bool = True,
        seed: int | None = None,
        shard_info: seqio.ShardInfo | None = None,
        *,
        sequence_length: Mapping[str, int] | None = None,
        use_cached: bool = False,
        num_epochs: int | None = 1,
    ) -> tf.data.Dataset:
        del shuffle, seed, sequence_length, use_cached, num_epochs

        def in_order(batch: Mapping[str, Any]) -> dict[str, Any]:
            order = tf.argsort(batch["row"])
            return {name: tf.gather(values, order) for name, values in batch.items()}

        dataset = self._cached.get_dataset(split=split, shuffle=False).ragged_batch(SMALL).map(in_order).unbatch()
        return dataset.shard(shard_info.num_shards, shard_info.index) if shard_info else dataset


def output_features(vocabulary: ReviewVocabulary) -> dict[str, Any]:
    """Inputs and targets of one vocabulary, each ended by its end-of-text id."""
    return {name: seqio.Feature(vocabulary, add_eos=True) for name in ("inputs", "targets")}


def add_teacher_text(name: str, source: seqio.DataSource) -> seqio.Task:
    """Registers a task from reviews to one form of teacher text: ``TeacherTextSource`` or ``CorpusSource``."""
    return _add(OrderedTask(name, source, output_features(ReviewVocabulary()), PREPROCESSORS))


def add_fsa(name: str, dataset: str) -> seqio.Task:
    """Registers a task from sentences to the pairs of an FSA dataset, scored by the released rule in percent."""
    return _add(
        OrderedTask(
            name,
            FsaSource(dataset),
            output_features(ReviewVocabulary()),
            PREPROCESSORS,
            postprocess_fn=functools.partial(_postprocess, CODECS[dataset.split("/")[0]]),
            metric_fns=[pair_scores],
        )
    )


def _postprocess(codec: Any, output: str, example: Mapping[str, Any], is_target: bool = False, **_: Any) -> Any:
    return read_pairs(codec, output, example, is_target)


def _add(task: OrderedTask) -> seqio.Task:
    seqio.TaskRegistry.add_provider(task.name, task)
    return task
