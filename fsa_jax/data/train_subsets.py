"""Tasks that train on a subset of another task's examples, to measure how much data a student needs.

gin binds the function in place of a task's name, on either engine::

    from fsa_jax.data import train_subsets

    MIXTURE_OR_TASK_NAME = @train_subsets.training_share()
    train_subsets.training_share:
      task = "fsa_atsa_rest14"
      examples = 300
      seed = 42
"""

from __future__ import annotations

import importlib
import random
from collections.abc import Sequence

import seqio
import tensorflow as tf

from fsa_base.errors import SettingError, require_choice
from fsa_jax.data.shuffling import Chosen, Rows
from fsa_jax.data.sources import TextSource


def training_share(
    task: str,
    examples: int | None = None,
    fraction: float | None = None,
    seed: int | None = None,
    module: str = "tasks",
) -> str:
    """Registers a task or mixture that trains on a subset of another's examples, and returns its name.

    Other splits are unchanged. For a mixture, a subset of each of its tasks is used.

    Args:
      task: name of the task or mixture.
      examples: number of training examples; all if there are fewer.
      fraction: share of all training examples, rounded down, at least one (arXiv 2412.18552 trains on such shares).
      seed: random seed of the choice. If None, the first examples.
      module: module that registers ``task``.

    Raises:
      SettingError: neither or both of ``examples`` and ``fraction`` are set, or the value is out of range.
    """
    counted = examples is not None and fraction is None and examples >= 1
    relative = fraction is not None and examples is None and 0 < fraction <= 1
    if not counted and not relative:
        raise SettingError(
            "training_share",
            expected="examples of 1 or more, or a fraction above 0 and up to 1",
            found=f"examples={examples}, fraction={fraction}",
            fix="bind one of training_share.examples and training_share.fraction",
        )
    importlib.import_module(module)
    known = sorted({*seqio.TaskRegistry.names(), *seqio.MixtureRegistry.names()})
    require_choice("training_share.task", task, known)
    suffix = f"{examples if fraction is None else fraction:g}_{'first' if seed is None else f'seed{seed}'}"
    return _register(seqio.get_mixture_or_task(task), suffix, examples, fraction, seed)


def _register(
    whole: seqio.Task | seqio.Mixture, suffix: str, examples: int | None, fraction: float | None, seed: int | None
) -> str:
    name = f"{whole.name}_{suffix}"
    if name in seqio.TaskRegistry.names() or name in seqio.MixtureRegistry.names():
        return name
    if isinstance(whole, seqio.Mixture):
        rates = whole.rate_per_task_name
        parts = [(_register(task, suffix, examples, fraction, seed), rates[task.name]) for task in whole.tasks]
        seqio.MixtureRegistry.add(name, parts)
    else:
        part = ShareSource(whole.source, examples, fraction, seed)
        seqio.TaskRegistry.add_provider(name, whole.replace(name=name, source=part))
    return name


class ShareSource(TextSource):
    """A subset of another source's training examples; the other splits are unchanged."""

    def __init__(self, whole: seqio.DataSource, examples: int | None, fraction: float | None, seed: int | None) -> None:
        super().__init__(splits=whole.splits)
        self._whole = whole
        self._examples = examples
        self._fraction = fraction
        self._seed = seed
        self._counted: dict[str | None, int] = {}

    def list_shards(self, split: str) -> Sequence[str]:
        return [split] if split == "train" else self._whole.list_shards(split)

    def num_input_examples(self, split: str) -> int | None:
        return len(self._chosen()) if split == "train" else self._whole.num_input_examples(split)

    def fingerprint(self, split: str) -> str | None:
        """The fingerprint of the other source; None if it has none."""
        return self._whole.fingerprint(split) if hasattr(self._whole, "fingerprint") else None  # pyright: ignore

    def rows(self, split: str) -> Rows | None:
        """The examples by number; None if the other source does not provide them."""
        rows = self._whole.rows(split) if hasattr(self._whole, "rows") else None  # pyright: ignore
        return rows if rows is None or split != "train" else Chosen(rows, self._chosen())

    def _total(self) -> int:
        known = self._whole.num_input_examples("train")
        if known is not None:
            return known
        # A source that leaves out rows, such as an ablation, must be read to the end to count its rows.
        content = self.fingerprint("train")
        if content not in self._counted:
            dataset = self._whole.get_dataset(split="train", shuffle=False)
            self._counted[content] = int(dataset.reduce(tf.constant(0, tf.int64), lambda count, _: count + 1))
        return self._counted[content]

    def _chosen(self) -> list[int]:
        total = self._total()
        count = max(1, int(total * self._fraction)) if self._fraction is not None else self._examples or 0
        count = min(count, total)
        if self._seed is None:
            return list(range(count))
        return sorted(random.Random(self._seed).sample(range(total), count))

    def examples(
        self, split: str, shuffle: bool, seed: int | None, shard_info: seqio.ShardInfo | None
    ) -> tf.data.Dataset:
        """The chosen examples in the order of the other source."""
        if split != "train":
            return self._whole.get_dataset(split=split, shuffle=shuffle, seed=seed, shard_info=shard_info)
        chosen = self._chosen()
        table = tf.scatter_nd([[index] for index in chosen], [True] * len(chosen), [max(chosen, default=0) + 1])
        dataset = (
            self._whole.get_dataset(split=split, shuffle=False)
            .enumerate()
            .take(len(table))
            .filter(lambda index, _: table[index])
            .map(lambda _, example: example)
        )
        return dataset.shard(shard_info.num_shards, shard_info.index) if shard_info else dataset

    def __str__(self) -> str:
        return f"ShareSource({self._whole}, examples={self._examples}, fraction={self._fraction}, seed={self._seed})"
