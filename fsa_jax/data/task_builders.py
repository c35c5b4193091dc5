"""Functions that build SeqIO tasks; tasks.py registers the tasks."""

from __future__ import annotations

import functools
import random
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import seqio
import tensorflow as tf

from fsa_base.errors import DataError
from fsa_jax.common.training_engine import installed_engine
from fsa_jax.data.shuffling import InMemory, fits, shuffled
from fsa_jax.data.sources import SMALL, FsaSource, TextSource
from fsa_jax.data.vocabulary import ReviewVocabulary
from fsa_jax.evaluation.task_metrics import pair_scores, read_pairs

# Every run imports this module, so a run with both engines installed ends here.
installed_engine()

PREPROCESSORS = (
    seqio.preprocessors.tokenize,
    seqio.CacheDatasetPlaceholder(),
    seqio.preprocessors.append_eos_after_trim,
)


class OrderedTask(seqio.Task):
    """A task whose examples have the same order with and without a cache.

    With shuffling, every epoch is a whole shuffle (``fsa_jax.data.shuffling``); SeqIO's tasks shuffle within 1,000
    examples only. Without shuffling, a cache of up to ``SMALL`` examples is read in the order of the source, because a
    cache is written in parallel, by default to 64 files, and so its own order is arbitrary.
    """

    ORDER = "whole shuffle"
    """Saved with the data position: a run that started with another order cannot be resumed with this one."""

    def get_dataset(
        self,
        sequence_length: Mapping[str, int] | None = None,
        split: str = "train",
        use_cached: bool = False,
        shuffle: bool = True,
        shuffle_buffer_size: int | None = None,
        seed: int | None = None,
        shard_info: seqio.ShardInfo | None = None,
        num_epochs: int | None = 1,
        trim_output_features: bool = True,
        try_in_mem_cache: bool = True,
    ) -> tf.data.Dataset:
        """Examples of the task, like those of a SeqIO task; ``shuffle_buffer_size`` is not used."""
        if not shuffle:
            return super().get_dataset(
                sequence_length=sequence_length,
                split=split,
                use_cached=use_cached,
                shuffle=False,
                seed=seed,
                shard_info=shard_info,
                num_epochs=num_epochs,
                trim_output_features=trim_output_features,
                try_in_mem_cache=try_in_mem_cache,
            )
        cached = use_cached and self.supports_caching
        source = self._get_cached_source(split) if cached else self.source
        order_seed = random.getrandbits(63) if seed is None else int(seed)
        dataset = shuffled(source, split, self.name, order_seed, shard_info, num_epochs)
        if not cached:
            dataset = self.preprocess_precache(dataset, seed=seed)
        dataset = self.preprocess_postcache(dataset, sequence_length=sequence_length, seed=seed)
        dataset = self._validate_preprocessing(dataset)
        if trim_output_features:
            dataset = self._trim_output_features(dataset, sequence_length=sequence_length)
        return dataset.prefetch(tf.data.AUTOTUNE)

    def _get_cached_source(self, split: str, file_shuffle_buffer_size: int | None = None) -> Any:
        cached = super()._get_cached_source(split, file_shuffle_buffer_size)
        _require_all_shards(cached.list_shards(split))
        return _CachedInSourceOrder(cached, int(self.get_cached_stats(split)["examples"]))

    def replace(self, **changes: Any) -> OrderedTask:
        """A copy of this task with other properties; SeqIO's method would return a plain SeqIO task."""
        like = super().replace(**changes)
        return type(self)(
            like.name,
            like.source,
            like.output_features,
            like.preprocessors,
            postprocess_fn=like.postprocessor,
            metric_fns=like.metric_fns,
        )


def _require_all_shards(files: Sequence[str]) -> None:
    """Raises DataError if files of a cache are missing. SeqIO would read only the files of an unfinished copy."""
    match = re.search(r"-of-(\d+)$", files[0]) if files else None
    if match and len(files) != int(match[1]):
        raise DataError(
            Path(files[0]).parent,
            expected=f"a cache of {int(match[1])} files {Path(files[0]).name.partition('-')[0]}-…",
            found=f"{len(files)}",
            fix="copy the missing files too, or write the cache again: seqio_cache_tasks --overwrite",
        )


class _CachedInSourceOrder(TextSource):
    """The cached examples of one split, sorted by ``row`` if they are not too many.

    Args:
      cached: SeqIO's source of the cache.
      examples: number of examples in the cache.
    """

    def __init__(self, cached: seqio.DataSource, examples: int) -> None:
        super().__init__(splits=cached.splits)
        self._cached = cached
        self._examples = examples

    def list_shards(self, split: str) -> Sequence[str]:
        return [split] if self._examples <= SMALL else self._cached.list_shards(split)

    def num_input_examples(self, split: str) -> int:
        del split
        return self._examples

    def size(self, split: str) -> int:
        """Size of the cache's files in bytes."""
        return sum(tf.io.gfile.stat(file).length for file in self._cached.list_shards(split))

    def rows(self, split: str) -> InMemory | None:
        """All examples in the order of the source; None if they are too large for memory."""
        if not fits(self.size(split)):
            return None
        return InMemory(self._cached.get_dataset(split=split, shuffle=False), order_by="row")

    def examples(
        self, split: str, shuffle: bool, seed: int | None, shard_info: seqio.ShardInfo | None
    ) -> tf.data.Dataset:
        """Examples in the order of the source. A large cache is read in the order of its files, shuffled if asked."""
        if self._examples > SMALL:
            return self._cached.get_dataset(split=split, shuffle=shuffle, seed=seed, shard_info=shard_info)

        def in_order(batch: Mapping[str, Any]) -> dict[str, Any]:
            order = tf.argsort(batch["row"])
            return {name: tf.gather(values, order) for name, values in batch.items()}

        dataset = self._cached.get_dataset(split=split, shuffle=False).ragged_batch(SMALL).map(in_order).unbatch()
        return dataset.shard(shard_info.num_shards, shard_info.index) if shard_info else dataset


def output_features(vocabulary: ReviewVocabulary) -> dict[str, Any]:
    """Inputs and targets with one vocabulary, each ending with the end-of-text id."""
    return {name: seqio.Feature(vocabulary, add_eos=True) for name in ("inputs", "targets")}


def add_teacher_text(name: str, source: seqio.DataSource) -> seqio.Task:
    """Registers a task from reviews to one form of teacher text: ``TeacherTextSource`` or ``CorpusSource``."""
    return _add(OrderedTask(name, source, output_features(ReviewVocabulary()), PREPROCESSORS))


def add_fsa(name: str, source: FsaSource) -> seqio.Task:
    """Registers a task from sentences to the tuples of a dataset. Scores follow the released rule, in percent."""
    return _add(OrderedTask(name, source, output_features(ReviewVocabulary()), PREPROCESSORS, **scoring(source)))


def scoring(source: FsaSource) -> dict[str, Any]:
    """The arguments of a task that parse and score its outputs."""
    return {"postprocess_fn": functools.partial(_postprocess, source), "metric_fns": [pair_scores]}


def _postprocess(
    source: FsaSource, output: str, example: Mapping[str, Any], is_target: bool = False, **_: Any
) -> list[tuple[str, ...]]:
    return read_pairs(source.codec, output, example, is_target)


def _add(task: OrderedTask) -> seqio.Task:
    seqio.TaskRegistry.add_provider(task.name, task)
    return task
