"""The corpus as a TFDS dataset: ``sentiment_corpus/analysis`` and ``sentiment_corpus/rewriting``.

Every row has its origin (review, teacher, prompt, sampling, seed) and its scores, so that ablations are filters at
training time and need no new corpus. A prepared corpus can be read by its name and folder, without this module:
``tfds.builder("sentiment_corpus/analysis", data_dir=…)``.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import tensorflow_datasets as tfds

from fsa_jax.corpus.held_out import HeldOut
from fsa_jax.corpus.selection import NUMBERS, TEXTS, TEXTS_OF_CHECK, WHOLES, Selection, files, held_out, selected


class SentimentCorpus(tfds.core.GeneratorBasedBuilder):
    """Reviews with the sentiment understanding that a teacher wrote about them (arXiv 2412.18552).

    Args:
      source: output of ``fsa check``, or a file in the released layout; needed only to build the corpus.
      selection: selection of rows; all by default.
      held_out_reviews: result of corpus.rows.held_out for the source, if already known.
      splits: splits to build; TFDS does not accept an empty one.
      beam: whether to build with Beam, part by part; otherwise the corpus is built in this process.
    """

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES: ClassVar = {"1.0.0": "First layout."}
    BUILDER_CONFIGS: ClassVar = [
        tfds.core.BuilderConfig(name="analysis", description="Opinion targets, aspects, sentiments and reasoning."),
        tfds.core.BuilderConfig(
            name="rewriting", description="The review in the first person with explicit sentiment."
        ),
    ]

    def __init__(
        self,
        *,
        source: Path | None = None,
        selection: Selection | None = None,
        held_out_reviews: HeldOut | None = None,
        splits: tuple[str, ...] = ("train", "validation"),
        beam: bool = False,
        **kwargs: Any,
    ):
        self._source = source
        self._selection = selection or Selection()
        self._held_out = held_out_reviews
        self._splits = splits
        self._beam = beam
        super().__init__(**kwargs)

    def _info(self) -> tfds.core.DatasetInfo:
        return self.dataset_info_from_configs(
            features=tfds.features.FeaturesDict(
                {
                    **{name: tfds.features.Text() for name in (*TEXTS, *TEXTS_OF_CHECK)},
                    **dict.fromkeys(WHOLES, np.int64),
                    **dict.fromkeys(NUMBERS, np.float32),
                }
            ),
            supervised_keys=("review", "response"),
            homepage="https://arxiv.org/abs/2412.18552",
        )

    def _split_generators(self, dl_manager: tfds.download.DownloadManager) -> dict[str, Any]:
        del dl_manager  # nothing is downloaded: the user generates the teacher text
        if self._source is None:
            raise ValueError(
                "SentimentCorpus is built by `fsa corpus`; read a built one with tfds.builder(name, data_dir)"
            )
        source_files = files(self._source)
        validation = self._held_out or held_out(source_files, self._selection)
        return {split: self._generate_examples(source_files, validation, split) for split in self._splits}

    def _generate_examples(self, source_files: list[Path], validation: HeldOut, split: str) -> Any:
        read = _Reader(self._selection, self.builder_config.name, validation, split)  # pyright: ignore
        if not self._beam:
            return (example for file in source_files for example in read(file))
        import apache_beam as beam

        # Without Reshuffle, the runner would fuse reading with listing the parts, and use only one worker.
        return beam.Create(source_files) | beam.Reshuffle() | beam.FlatMap(read)


class _Reader:
    """Reads one part. Can be pickled, so that Beam can send it to its workers."""

    def __init__(self, selection: Selection, understanding: str, validation: HeldOut, split: str):
        self._selection = selection
        self._understanding = understanding
        self._validation = validation
        self._split = split

    def __call__(self, file: Path) -> Iterator[tuple[str, dict[str, Any]]]:
        for key, row in selected(file, self._selection, self._understanding):
            if self._validation.split_of(row["review"]) == self._split:
                yield key, row
