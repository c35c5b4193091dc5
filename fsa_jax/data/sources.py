"""SeqIO data sources: teacher text and the FSA benchmark. Files are opened only when data are requested."""

from __future__ import annotations

import abc
import functools
import hashlib
import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import seqio
import tensorflow as tf

from fsa_jax.common.paths import data_dir
from fsa_jax.common.records import LabelledSentence, Understanding
from fsa_jax.data import benchmark_files, own_labels, teacher_text
from fsa_jax.data.shuffling import InMemory
from fsa_jax.evaluation.subsets import SUBSETS, select
from fsa_jax.labels.prepare import PreparedLabels
from fsa_jax.text.pairs import Codec
from fsa_jax.text.tuples import CODECS

EXAMPLE: Any = {
    "row": tf.TensorSpec((), tf.int64),
    "id": tf.TensorSpec((), tf.string),
    "inputs": tf.TensorSpec((), tf.string),
    "targets": tf.TensorSpec((), tf.string),
}
"""Features of both sources: the row number, the id of the review or sentence, and two texts."""

SMALL = 2**15
"""Caches of at most this many examples are read in the order of the source (``fsa_jax.data.task_builders``)."""


class TextSource(seqio.DataSource):
    """A source of examples with the features of EXAMPLE, in a fixed order. Subclasses define :meth:`examples`."""

    @property
    def supports_arbitrary_sharding(self) -> bool:
        return False

    @abc.abstractmethod
    def examples(
        self, split: str, shuffle: bool, seed: int | None, shard_info: seqio.ShardInfo | None
    ) -> tf.data.Dataset:
        """The examples of a split, or of one shard of it."""

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
        """The examples of a split; the arguments are SeqIO's."""
        del sequence_length, use_cached, num_epochs
        return self.examples(split, shuffle, seed, shard_info)


class TeacherTextSource(TextSource):
    """Reviews and one form of teacher text, one shard per file, with the splits ``train`` and ``validation``."""

    def __init__(self, understanding: Understanding) -> None:
        super().__init__(splits=("train", "validation"))
        self._understanding: Understanding = understanding

    def list_shards(self, split: str) -> Sequence[str]:
        return [str(path) for path in teacher_text.files()]

    def num_input_examples(self, split: str) -> int:
        return teacher_text.index(teacher_text.files()).held_out.rows[split, self._understanding]

    def fingerprint(self, split: str) -> str:
        """A hash that distinguishes these rows from other rows."""
        return teacher_text.index(teacher_text.files()).fingerprints[split, self._understanding]

    def rows(self, split: str) -> _LinesOfFiles:
        """The examples by number, in the order of the files."""
        paths = teacher_text.files()
        found = teacher_text.index(paths)
        return _LinesOfFiles(
            paths, found.numbers[split, self._understanding], found.offsets[split, self._understanding]
        )

    def examples(
        self, split: str, shuffle: bool, seed: int | None, shard_info: seqio.ShardInfo | None
    ) -> tf.data.Dataset:
        """Examples of all files, or of every ``num_shards``-th file, in order. The task shuffles, not this method.

        Raises:
          MissingDataError: there is no teacher text.
          DataError: a file is unusable. After reading has begun, the dataset raises a TensorFlow error with its
            message.
        """
        del shuffle, seed
        paths = teacher_text.files()
        held_out = teacher_text.index(paths).held_out
        numbered = list(enumerate(paths))
        if shard_info:
            numbered = numbered[shard_info.index :: shard_info.num_shards]

        def kept_rows() -> Iterator[dict[str, Any]]:
            for number, path in numbered:
                for row in teacher_text.read(path, number):
                    if row.understanding == self._understanding and held_out.split_of(row.review) == split:
                        yield {"row": row.number, "id": row.review_id, "inputs": row.review, "targets": row.response}

        return tf.data.Dataset.from_generator(kept_rows, output_signature=EXAMPLE)

    def __str__(self) -> str:
        return f"TeacherTextSource({self._understanding})"


class _LinesOfFiles:
    """Rows that are read from their files by offset, so that files of any size get a whole shuffle.

    Args:
      paths: paths of the files.
      numbers: numbers of the rows.
      offsets: byte offsets of their lines.
    """

    _AT_A_TIME = 64

    def __init__(self, paths: Sequence[Path], numbers: np.ndarray, offsets: np.ndarray) -> None:
        self._paths = paths
        self._numbers = numbers
        self._offsets = offsets

    def __len__(self) -> int:
        return len(self._numbers)

    def at(self, numbers: tf.data.Dataset) -> tf.data.Dataset:
        """The rows with these numbers, in their order."""

        def columns(batch: tf.Tensor) -> dict[str, Any]:
            row, review_id, inputs, targets = tf.numpy_function(
                self._read, [batch], (tf.int64, tf.string, tf.string, tf.string), stateful=False
            )
            found = {"row": row, "id": review_id, "inputs": inputs, "targets": targets}
            return {name: tf.ensure_shape(column, [None]) for name, column in found.items()}

        return numbers.batch(self._AT_A_TIME).map(columns, num_parallel_calls=tf.data.AUTOTUNE).unbatch()

    def _read(self, batch: np.ndarray) -> tuple[np.ndarray, ...]:
        rows = teacher_text.read_at(self._paths, self._numbers[batch].tolist(), self._offsets[batch].tolist())
        texts = ([getattr(row, name).encode() for row in rows] for name in ("review_id", "review", "response"))
        return self._numbers[batch], *(np.array(column, object) for column in texts)


class FsaSource(TextSource):
    """Sentences of one FSA dataset and their pairs, triples or quadruples as text.

    Splits: ``train``, ``validation`` (dev.json), ``test`` (test.json and hard_test.json, as in the paper), and of the
    test set ``original``, ``hard``, ``implicit`` and ``multi``. Only the paper's datasets must have hard_test.json.

    Args:
      name: name of the dataset, such as ``atsa/rest14``; the part before the slash chooses the codec.
    """

    def __init__(self, name: str) -> None:
        super().__init__(splits=("train", "validation", "test", *(subset for subset in SUBSETS if subset != "all")))
        self._given_name = name

    @property
    def root(self) -> Path:
        """The data directory."""
        return data_dir()

    @property
    def name(self) -> str:
        """The dataset in it, such as ``atsa/rest14``."""
        return self._given_name

    @property
    def codec(self) -> Codec:
        """The codec of the dataset."""
        return CODECS[self.name.split("/")[0]]

    def list_shards(self, split: str) -> Sequence[str]:
        return [split]

    def num_input_examples(self, split: str) -> int:
        return len(self.sentences(split))

    def fingerprint(self, split: str) -> str:
        """A hash of the files that distinguishes these sentences from other sentences."""
        contents = [file.read_bytes() for file in self._files(split)]
        return hashlib.sha256(b"\0".join(contents)).hexdigest()[:12]

    def rows(self, split: str) -> InMemory:
        """The examples by number, in the order of the files."""
        return InMemory(self.get_dataset(split, shuffle=False))

    def sentences(self, split: str) -> list[LabelledSentence]:
        """The labelled sentences of a split.

        Raises:
          MissingDataError: a file is missing.
          DataError: a file is unusable.
        """
        sentences = [sentence for file in self._files(split) for sentence in _load(file)]
        if split in ("train", "validation"):
            return sentences
        return select(sentences, "all" if split == "test" else split)  # pyright: ignore[reportArgumentType]

    def _files(self, split: str) -> list[Path]:
        names = {"train": ["train.json"], "validation": ["dev.json"]}.get(split, ["test.json", "hard_test.json"])
        files = [self.root / "fsa" / self.name / name for name in names]
        if self.name not in benchmark_files.RELEASED and not files[-1].is_file():
            return files[:1]  # The user's own dataset need not have hard sentences.
        return files

    def examples(
        self, split: str, shuffle: bool, seed: int | None, shard_info: seqio.ShardInfo | None
    ) -> tf.data.Dataset:
        """Examples in the order of the files. The task shuffles, not this method."""
        del shuffle, seed
        sentences = self.sentences(split)
        unreadable = sum(len(self.codec.unreadable(sentence)) for sentence in sentences)
        if unreadable:
            logging.getLogger(__name__).warning(
                "%s %s: %d aspects are left out of the targets, because their text has ';' or '|' in it, or their "
                "opinion words are not in the sentence",
                self.name,
                split,
                unreadable,
            )
        columns: Any = {
            "row": tf.range(len(sentences), dtype=tf.int64),
            "id": tf.constant([sentence.id for sentence in sentences], tf.string),
            "inputs": tf.constant([sentence.text for sentence in sentences], tf.string),
            "targets": tf.constant([self.codec.encode(sentence) for sentence in sentences], tf.string),
        }
        dataset = tf.data.Dataset.from_tensor_slices(columns)
        return dataset.shard(shard_info.num_shards, shard_info.index) if shard_info else dataset

    def __str__(self) -> str:
        return f"{type(self).__name__}({self._given_name})"


class OwnLabelsSource(FsaSource):
    """The labels of ``$FSA_LABELS``, in any known format; nothing is read until data are requested.

    Args:
      codec: the codec; None for the one with the most parts that the labels have.
    """

    def __init__(self, codec: str | None = None) -> None:
        super().__init__(codec or "any")
        self._codec_name = codec

    @property
    def root(self) -> Path:
        return self._labels.root

    @property
    def name(self) -> str:
        return self._labels.dataset

    @property
    def _labels(self) -> PreparedLabels:
        return own_labels.of_environment(os.environ.get(own_labels.LABELS_VARIABLE, ""), self._codec_name)


def _load(path: Path) -> tuple[LabelledSentence, ...]:
    state = path.stat() if path.is_file() else None
    return _loaded(path, state and (state.st_size, state.st_mtime_ns))


@functools.lru_cache(maxsize=32)
def _loaded(path: Path, state: tuple[int, int] | None) -> tuple[LabelledSentence, ...]:
    del state  # part of the cache key: a changed file is read again
    return tuple(benchmark_files.load(path))
