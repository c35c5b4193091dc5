"""The training data as a stream with a position that can be saved and restored exactly.

With the same seed, tf.data produces exactly the same batches. So a position consists of the seed and the number of
batches taken: to restore it, the pipeline is built with the saved seed, and that many batches are skipped. This works
with every SeqIO pipeline (shuffled, packed, cached, mixed) and takes a few bytes per checkpoint. Skipping requires the
preprocessing of all earlier examples, but not the device. If that is too slow, ``save_dataset`` also saves the state of
tf.data's iterator with its shuffle buffers, which is restored without skipping. Pipelines that run Python functions
cannot be saved in this way; this is an error.

A position is valid for the same task, split, rows (and their content, if known), lengths, batch size and packing. If
one of them differs, the data starts from the beginning. With another number of processes, each of which takes a part
of the examples, the same number of batches is skipped. In both cases a message is printed. If the number of examples of
a batch is set (t5x/data/exact_batches.py), batch size and packing may differ.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import jax
from absl import logging
from etils import epath

from fsa_base.checkpoint_files import damaged
from fsa_base.errors import CheckpointError, DamagedCheckpointError, DataError, SettingError
from t5x.data import datasets
from t5x.data.datasets import DatasetConfig
from t5x.progress import Progress

if TYPE_CHECKING:
    import seqio

_ADDED = ("rows", "content")
"""Parts of a position that earlier versions did not write."""

_PATIENCE = 5.0
"""Seconds after which a search for the place in the data shows how far it is."""


class TrainingData:
    """An endless iterator over the batches of this process.

    Args:
      config: The dataset.
      shard_id: Index of this process's part.
      num_shards: Number of parts.
      converter: SeqIO feature converter of the model.
      get_dataset: Creates the ``tf.data.Dataset``, like :func:`t5x.data.datasets.get_dataset`.
      save_iterator: Whether :meth:`save` also writes the state of tf.data's iterator.
      rows_multiple: Number that divides the rows of a batch where they are chosen (t5x/data/exact_batches.py).

    Attributes:
      dataset: The ``tf.data.Dataset``, from the beginning.
      seed: Random seed of the pipeline.
      taken: Number of batches taken since the beginning.

    Raises:
      DataError: The data does not exist or is empty.
      SettingError: The task does not exist.
    """

    def __init__(
        self,
        config: DatasetConfig,
        shard_id: int,
        num_shards: int,
        converter: Any,
        get_dataset: Any = datasets.get_dataset,
        save_iterator: bool = False,
        rows_multiple: int = 1,
    ) -> None:
        self._name = f"train_ds-{shard_id:03}-of-{num_shards:03}"
        self._config = config
        self._make = lambda seeded: get_dataset(seeded, shard_id, num_shards, converter)
        self._exact = datasets.exact_batches_of(config, num_shards)
        self._save_iterator = save_iterator
        self.taken = 0
        self._iterator: Any = None
        datasets.check(config)
        seed = datasets.wall_clock_seed() if config.seed is None else config.seed
        if self._exact is not None:
            every = dataclasses.replace(config, seed=seed, batch_size=self._exact.examples)
            self._exact = self._exact.with_enough_rows(self._make(every), rows_multiple)
            self._config = dataclasses.replace(config, batch_size=self._exact.rows)
        self._build(seed)
        # Computed at the start: the files may grow while the run continues with the rows that it has.
        self._identity = _identity(config, converter)

    @property
    def batch_size(self) -> int:
        """Rows of a batch, of all processes together."""
        return self._config.batch_size

    def _build(self, seed: int) -> None:
        self.seed = seed
        self.dataset = self._make(dataclasses.replace(self._config, seed=seed))

    def seek(self, directory: epath.Path) -> None:
        """Goes to the position in ``dataset/`` of a checkpoint, if it belongs to this data.

        Raises:
          DamagedCheckpointError: The position cannot be read. The data is at its beginning then.
          CheckpointError: The state of tf.data's iterator belongs to other data.
        """
        before = self.seed
        try:
            self._seek(directory)
        except DamagedCheckpointError:
            self._iterator, self.taken = None, 0
            self._build(before)
            raise

    def _seek(self, directory: epath.Path) -> None:
        position = self._read(directory)
        if position is None:
            return
        # A second iteration over the same dataset object would be shuffled in another order.
        if position["seed"] != self.seed or self._iterator is not None:
            self._build(position["seed"])
        state_fits = position.get("shapes", self._shapes()) == self._shapes()
        if self._save_iterator and state_fits and (directory / f"{self._name}.index").exists():
            self._iterator = self._restored(directory / self._name)
        else:
            self._iterator = self._passed_over(position["batches"])
        self.taken = position["batches"]

    def _passed_over(self, batches: int) -> Any:
        # Not dataset.skip, which shows no progress: after a long run this takes minutes.
        iterator = iter(self.dataset)
        progress = Progress(0, batches, enabled=jax.process_index() == 0, unit="skipping batch", after=_PATIENCE)
        for passed in range(1, batches + 1):
            self._next(iterator, passed - 1)
            if progress.due(passed):
                progress.show(passed, {}, 0)
        return iterator

    def _restored(self, state: epath.Path) -> Any:
        tf = datasets.tensorflow()
        iterator = iter(self.dataset)
        try:
            tf.train.Checkpoint(ds=iterator).read(str(state)).assert_consumed()
        except MemoryError:
            raise
        except Exception as error:  # for a truncated file, TensorFlow may raise an IndexError
            reason = f"{type(error).__name__}: {(str(error).splitlines() or [''])[0]}"
            # These mean another pipeline. All other errors, and a missing file, mean damage.
            causes = AssertionError | ValueError | tf.errors.InvalidArgumentError | tf.errors.NotFoundError
            if not isinstance(error, causes) or "No such file" in str(error):
                raise damaged(state, reason) from error
            raise CheckpointError(
                state,
                expected="the state of this training data's iterator",
                found=reason,
                fix="--gin.utils.SaveCheckpointConfig.save_dataset=False, to pass over the examples before instead",
            ) from error
        return iterator

    def __iter__(self) -> TrainingData:
        return self

    def __next__(self) -> dict[str, Any]:
        """Returns the next batch: arrays (batch_size / num_shards, length).

        Raises:
          DataError: There are no more batches.
        """
        if self._iterator is None:
            self._iterator = iter(self.dataset)
        batch = self._next(self._iterator, self.taken)
        self.taken += 1
        return {name: value.numpy() for name, value in batch.items()}

    def _next(self, iterator: Any, taken: int) -> Any:
        try:
            batch = next(iterator, None)
        except datasets.tensorflow().errors.InvalidArgumentError as error:
            overflow = None if self._exact is None else self._exact.overflow(error, taken + 1)
            if overflow is None:
                raise
            raise overflow from error
        if batch is None:
            raise DataError(
                f"task {self._config.name}, split {self._config.split!r}",
                expected=f"a batch of {self._config.batch_size}",
                found=f"the end of the data after {taken} batches",
                fix="lower BATCH_SIZE, or let the dataset repeat",
            )
        return batch

    def _shapes(self) -> dict[str, list[int]]:
        """Shape of every feature, in whose form tf.data's iterator keeps batches that it has prepared."""
        return {name: list(spec.shape) for name, spec in self.dataset.element_spec.items()}

    def save(self, directory: epath.Path) -> None:
        """Writes the position to ``directory``, the ``dataset/`` of a checkpoint."""
        position = {"batches": self.taken, "seed": self.seed, "shapes": self._shapes(), **self._identity}
        (directory / f"{self._name}.json").write_text(json.dumps(position))
        if self._save_iterator and self._iterator is not None:
            tf = datasets.tensorflow()
            try:
                tf.train.Checkpoint(ds=self._iterator).write(str(directory / self._name))
            except tf.errors.OpError as error:
                raise SettingError(
                    "SaveCheckpointConfig.save_dataset",
                    expected="a tf.data pipeline that can save its state",
                    found=f"task {self._config.name}: {str(error).splitlines()[0]}",
                    fix="--gin.utils.SaveCheckpointConfig.save_dataset=False: positions are exact without it",
                ) from error

    def _read(self, directory: epath.Path) -> dict[str, Any] | None:
        own = directory / f"{self._name}.json"
        files = [own] if own.exists() else sorted(directory.glob("train_ds-*.json")) if directory.exists() else []
        if not files:
            logging.warning(
                "%s has no position of the training data: the data starts FROM THE BEGINNING", directory.parent
            )
            return None
        if files[0] != own:
            logging.warning(
                "%s was saved by another number of processes: the same number of batches is skipped, but "
                "they contain other examples",
                directory.parent,
            )
        position = _position(files[0])
        wanted = self._identity | ({} if self._config.seed is None else {"seed": self._config.seed})
        for name in _ADDED:
            if name not in position:
                wanted.pop(name, None)
        changed = [
            f"{name} is {value} and was {position.get(name)}"
            for name, value in wanted.items()
            if position.get(name) != value
        ]
        if changed:
            logging.warning(
                "the training data is not that of %s: %s; it starts FROM THE BEGINNING",
                directory.parent,
                ", ".join(changed),
            )
            return None
        return position


def _position(file: epath.Path) -> dict[str, Any]:
    try:
        position = json.loads(file.read_bytes())
        counts = [position["seed"], position["batches"]]
    except (OSError, ValueError, LookupError, TypeError, RecursionError) as error:
        raise damaged(file, f"{type(error).__name__}: {error}") from error
    if any(type(count) is not int or abs(count) >= 2**63 for count in counts) or counts[1] < 0:
        raise damaged(file, f"seed and batches {counts}")
    return position


def _identity(config: DatasetConfig, converter: Any) -> dict[str, Any]:
    """Returns what must be equal for a position to mean the same batch.

    Tasks may have an attribute ORDER, the name of the algorithm that orders their examples by row number; the order
    also depends on the number of rows and on their content.
    """
    import seqio

    tasks = seqio.get_subtasks(datasets.find_provider(config))
    orders = sorted({task.ORDER for task in tasks if hasattr(task, "ORDER")})
    rows = {task.name: known for task in tasks if (known := _rows(task, config)) is not None}
    content = {task.name: known for task in tasks if (known := _content(task, config)) is not None}
    return {
        **({"order": ", ".join(orders)} if orders and config.shuffle else {}),
        **({"rows": rows} if rows else {}),
        **({"content": content} if content else {}),
        "name": config.name,
        "split": config.split,
        "lengths": dict(config.task_feature_lengths or {}),
        **_batches(config, converter),
        "shuffle": config.shuffle,
        "use_cached": config.use_cached,
    }


def _batches(config: DatasetConfig, converter: Any) -> dict[str, Any]:
    if config.examples_per_batch is not None:
        return {"batch_size": f"exactly {config.examples_per_batch} examples"}
    # A converter of its own packing describes it in an attribute.
    packing = getattr(converter(pack=config.pack), "packing", None)
    return {"batch_size": config.batch_size, "pack": packing or config.pack}


def _rows(task: seqio.Task, config: DatasetConfig) -> int | None:
    """Returns the number of rows of a task; None if it is not known."""
    try:
        if config.use_cached:
            statistics: Mapping[str, Any] = task.get_cached_stats(config.split)
            return statistics.get("examples")
        return task.num_input_examples(config.split)
    except (ValueError, KeyError):  # no statistics in the cache, or only for whole splits
        return None


def _content(task: seqio.Task, config: DatasetConfig) -> str | None:
    """Returns what identifies the content of a task: the statistics of its cache, or the source's fingerprint."""
    try:
        if config.use_cached:
            statistics = json.dumps(task.get_cached_stats(config.split), sort_keys=True)
            return hashlib.sha256(statistics.encode()).hexdigest()[:12]
        return task.source.fingerprint(config.split) if hasattr(task.source, "fingerprint") else None
    except (ValueError, KeyError):
        return None
