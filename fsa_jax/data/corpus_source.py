"""``sentiment_corpus`` as a SeqIO source, complete or reduced for an ablation.

The corpus is read from ``$FSA_DATA_DIR/corpus``, where ``fsa corpus`` wrote it, or from ``$FSA_DATA_DIR`` itself.
Ablations remove rows of the training split by the scores of each row. Validation rows stay the same, so that validation
losses can be compared.
"""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import seqio
import tensorflow as tf
import tensorflow_datasets as tfds
from google.protobuf.json_format import ParseError

from fsa_base import checksums
from fsa_base.errors import DataError, MissingDataError, SettingError
from fsa_jax.common.paths import data_dir
from fsa_jax.common.records import Understanding
from fsa_jax.corpus.corpus_files import BUILD_AGAIN, require_whole
from fsa_jax.corpus.statistics import STATISTICS
from fsa_jax.data.shuffling import InMemory, fits
from fsa_jax.data.sources import TextSource

IMPLICIT_TENTH = 5
"""A review is implicit if at least this many tenths of its sentences have no opinion word, as in ``fsa sample``."""

_BUCKETS = 2**31 - 1


@dataclass(frozen=True)
class Ablation:
    """An ablation: what to leave out of the corpus.

    Args:
      reasoning: whether analyses keep their reasoning, in all splits.
      max_hallucination: rows with a higher hallucination score are left out; rows without a score stay.
      implicit_share: share of rows about mostly implicit reviews, 0 to 1, reached by leaving out other rows.
      size: approximate number of rows to keep (rows are drawn independently); a smaller corpus is a subset of a larger.
      seed: random seed that chooses the left-out rows.
    """

    reasoning: bool = True
    max_hallucination: float = 1.0
    implicit_share: float | None = None
    size: int | None = None
    seed: int = 0

    def __post_init__(self):
        for name, value in (("max_hallucination", self.max_hallucination), ("implicit_share", self.implicit_share)):
            if value is not None and not 0 <= value <= 1:
                raise SettingError(name, expected="0 to 1", found=str(value), fix="choose another value")
        if self.size is not None and self.size < 1:
            raise SettingError("size", expected="1 or more", found=str(self.size), fix="choose another value")

    @property
    def thins(self) -> bool:
        """Whether rows are left out."""
        return self.max_hallucination < 1 or self.implicit_share is not None or self.size is not None


WHOLE = Ablation()


class CorpusSource(TextSource):
    """Reviews and one form of teacher text, with the splits ``train`` and ``validation``.

    Args:
      understanding: form of the teacher text.
      ablation: ablation to apply.
    """

    def __init__(self, understanding: Understanding, ablation: Ablation = WHOLE) -> None:
        super().__init__(splits=("train", "validation"))
        self._understanding = understanding
        self._ablation = ablation

    def list_shards(self, split: str) -> Sequence[str]:
        return [str(path) for path in self._part(split)[1].filepaths]

    def num_input_examples(self, split: str) -> int | None:
        """Number of rows of the split; None if the ablation leaves out rows."""
        if split == "train" and self._ablation.thins:
            return None
        return self._part(split)[1].num_examples

    def fingerprint(self, split: str) -> str | None:
        """A hash that distinguishes these rows from other rows; None if the corpus has no checksums."""
        listed = self._folder().parent.parent / checksums.LIST
        if not listed.is_file():
            return None
        return hashlib.sha256(f"{checksums.file_digest(listed)} {split} {self._ablation}".encode()).hexdigest()[:12]

    def examples(
        self, split: str, shuffle: bool, seed: int | None, shard_info: seqio.ShardInfo | None
    ) -> tf.data.Dataset:
        """Examples with ``row``, ``id``, ``inputs`` (review) and ``targets`` (teacher text).

        Raises:
          MissingDataError: there is no corpus, or it lacks this form or split.
        """
        builder, part = self._part(split)
        context = None
        if shard_info:
            context = tf.distribute.InputContext(shard_info.num_shards, shard_info.index)
        reading = tfds.ReadConfig(
            input_context=context,
            shuffle_seed=seed,
            add_tfds_id=True,
            skip_prefetch=True,
            # Without shuffling, the files are read one after the other.
            interleave_cycle_length=16 if shuffle else 1,
        )
        dataset: tf.data.Dataset = builder.as_dataset(split=split, shuffle_files=shuffle, read_config=reading)  # pyright: ignore
        first = tf.constant([0, *itertools.accumulate(part.shard_lengths)], tf.int64)

        def numbered(row: Mapping[str, Any]) -> dict[str, Any]:
            # The number must not depend on the reader: NAME-train.tfrecord-00001-of-00004__17 is row 17 of file 1.
            place = tf.strings.regex_replace(row["tfds_id"], r"^.*-(\d+)-of-\d+__(\d+)$", r"\1 \2")
            shard, within = tf.unstack(tf.strings.to_number(tf.strings.split(place), tf.int64), 2)
            return {**row, "row": first[shard] + within}

        dataset = dataset.map(numbered, num_parallel_calls=tf.data.AUTOTUNE)
        if split == "train":
            for keep in _filters(self._ablation, self._folder().parent.parent, self._understanding):
                dataset = dataset.filter(keep)
        return dataset.map(self._example, num_parallel_calls=tf.data.AUTOTUNE)

    def size(self, split: str) -> int:
        """Size of the split's files in bytes."""
        return self._part(split)[1].num_bytes

    def rows(self, split: str) -> InMemory | None:
        """The examples by number, in the order of the files; None if they are too large for memory."""
        return InMemory(self.get_dataset(split, shuffle=False)) if fits(self.size(split)) else None

    def _example(self, row: Mapping[str, Any]) -> dict[str, Any]:
        targets = row["response"] if self._ablation.reasoning else without_reasoning(row["response"])
        return {"row": row["row"], "id": row["review_id"], "inputs": row["review"], "targets": targets}

    def _folder(self) -> Path:
        places = [data_dir() / "corpus" / "sentiment_corpus", data_dir() / "sentiment_corpus"]
        root = next((place for place in places if place.is_dir()), places[0]) / self._understanding
        versions = sorted(path for path in root.glob("*.*.*") if (path / "dataset_info.json").is_file())
        if not versions:
            raise MissingDataError(
                root,
                expected=f"a corpus with {self._understanding} text",
                found="nothing",
                fix="fsa corpus CHECKED $FSA_DATA_DIR/corpus",
            )
        return versions[-1]

    def _part(self, split: str) -> tuple[tfds.core.DatasetBuilder, Any]:
        """The prepared corpus, and TFDS's information about a split."""
        folder = self._folder()
        require_whole(folder.parent.parent)
        try:
            builder = tfds.builder_from_directory(folder)
            found = builder.info.splits
        # TFDS raises these for a damaged dataset_info.json, if there was no checksum to detect the damage before.
        except (ValueError, LookupError, AttributeError, TypeError, OSError, ParseError) as error:
            raise DataError(
                folder, expected="a corpus that can be read", found=str(error)[:300], fix=BUILD_AGAIN
            ) from error
        if missing := [split for split in self.splits if split not in found]:
            raise MissingDataError(
                folder,
                expected=f"the split {missing[0]}",
                found=", ".join(found),
                fix="fsa corpus --overwrite, with more rows or another --held-out",
            )
        return builder, found[split]

    def __str__(self) -> str:
        return f"CorpusSource({self._understanding}, {self._ablation})"


# The reasoning has its own line, or follows a comma on the line of the sentiment. The next label or blank line ends it.
_REASONING = (
    r"(?i)(?:\n[^\w\n]*|[,;][^\S\n]+)reason(?:ing)?[ \d]*(?:\([^)\n]*\)\s*)?:[^\n]*"
    r"(?:\n[^\S\n]*[^\s:][^\n:]*)*(?:\n|$)"
)


def without_reasoning(text: tf.Tensor) -> tf.Tensor:
    """An analysis without its reasoning, which may have several lines."""
    return tf.strings.strip(tf.strings.regex_replace(text, _REASONING, "\n"))


def _filters(ablation: Ablation, root: Path, understanding: str) -> list[Any]:
    filters = []
    if ablation.max_hallucination < 1:
        limit = ablation.max_hallucination
        # NaN is tested explicitly, because TensorFlow rewrites "not above" to "at most", which differs for NaN.
        filters.append(lambda row: tf.math.is_nan(row["hallucination"]) | (row["hallucination"] <= limit))
    if ablation.implicit_share is not None or ablation.size is not None:
        keep_implicit, keep_explicit = _rates(ablation, _implicit_tenths(root, understanding))

        def drawn(row: Mapping[str, Any]) -> tf.Tensor:
            key = tf.strings.join([str(ablation.seed), row["review_id"]], separator=" ")
            place = tf.strings.to_hash_bucket_strong(key, _BUCKETS, [ablation.seed, 1])
            rate = tf.where(row["implicit_share"] >= IMPLICIT_TENTH / 10, keep_implicit, keep_explicit)
            return tf.cast(place, tf.float64) < rate * _BUCKETS

        filters.append(drawn)
    return filters


def _rates(ablation: Ablation, tenths: Sequence[int]) -> tuple[tf.Tensor, tf.Tensor]:
    """The shares of implicit and of explicit rows to keep, each 0 to 1, scalar float64.

    Raises:
      DataError: the corpus has no row of a kind that is needed.
    """
    implicit, explicit = sum(tenths[IMPLICIT_TENTH:]), sum(tenths[:IMPLICIT_TENTH])
    keep_implicit = keep_explicit = 1.0
    if ablation.implicit_share is not None:
        wanted = ablation.implicit_share
        if (wanted > 0 and not implicit) or (wanted < 1 and not explicit):
            raise DataError(
                "implicit_share",
                expected=f"a corpus with {'implicit' if not implicit else 'explicit'} reviews",
                found="none",
                fix="sample them with fsa sample --implicit-share",
            )
        # All rows of the scarce kind are kept; rows of the other kind are left out until the share is right.
        if implicit * (1 - wanted) >= explicit * wanted:
            keep_implicit = explicit * wanted / ((1 - wanted) * implicit) if wanted < 1 else 1.0
            keep_explicit = 1.0 if wanted < 1 else 0.0
        else:
            keep_explicit = implicit * (1 - wanted) / (wanted * explicit)
    if ablation.size is not None:
        left = keep_implicit * implicit + keep_explicit * explicit
        keep_implicit, keep_explicit = (
            rate * min(1.0, ablation.size / left) for rate in (keep_implicit, keep_explicit)
        )
    return tf.constant(keep_implicit, tf.float64), tf.constant(keep_explicit, tf.float64)


def _implicit_tenths(root: Path, understanding: str) -> list[int]:
    """Number of training rows by implicit share in tenths, from the corpus's statistics."""
    path = root / STATISTICS
    if not path.is_file():
        raise MissingDataError(path, expected="the corpus's statistics", found="nothing", fix=BUILD_AGAIN)
    try:
        tenths = json.loads(path.read_text("utf-8"))["parts"][understanding]["train"]["implicit_share_tenths"]
        if not isinstance(tenths, list) or not all(type(count) is int and count >= 0 for count in tenths):
            raise TypeError(f"implicit_share_tenths: {tenths!r}")
        return tenths
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise DataError(path, expected="the corpus's statistics", found=repr(error)[:300], fix=BUILD_AGAIN) from error
