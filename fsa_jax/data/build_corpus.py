"""Builds ``sentiment_corpus`` on disk: both forms, statistics and the dataset card."""

from __future__ import annotations

import contextlib
import io
import json
import os
import shutil
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import tensorflow as tf
import tensorflow_datasets as tfds

from fsa_base import checksums
from fsa_base.disk import replacing
from fsa_base.errors import DataError, SettingError
from fsa_jax.checking import checked_files
from fsa_jax.common import output_checksums
from fsa_jax.common.atomic_directory import written_aside
from fsa_jax.common.paths import shown
from fsa_jax.corpus.corpus_files import CARD, FOREIGN
from fsa_jax.corpus.dataset_card import card
from fsa_jax.corpus.selection import Selection, check_of, files, held_out
from fsa_jax.corpus.statistics import STATISTICS, summarise
from fsa_jax.data.sentiment_corpus import SentimentCorpus

EVERYTHING = Selection()


def build_corpus(
    source: Path | str,
    data_dir: Path | str,
    selection: Selection = EVERYTHING,
    *,
    shards: int | None = None,
    beam_options: list[str] | None = None,
    overwrite: bool = False,
    repository: str | None = None,
) -> dict[str, Any]:
    """Builds the corpus atomically in ``data_dir/sentiment_corpus``, and returns its statistics; prints nothing.

    Args:
      source: output of ``fsa check``, or a file in the released layout.
      data_dir: TFDS data directory.
      selection: selection of rows; by default all, with 500 rows for validation.
      shards: number of files per split; None lets TFDS choose by size.
      beam_options: Beam pipeline options; None builds in this process.
      overwrite: whether to replace an existing corpus, or an unfinished one of another source or selection.
      repository: name of the repository on the Hub to which the corpus is uploaded afterwards, for its card.

    Raises:
      SettingError: atomic_directory.written_aside refuses the output folder, or the folder is inside the source.
      DataError: no row is selected, or the check is damaged.
    """
    source, data_dir = Path(source), Path(data_dir)
    root = data_dir / "sentiment_corpus"
    check_root = check_of(source)
    if check_root is not None:
        if Path(os.path.realpath(check_root)) in Path(os.path.realpath(root)).parents:
            raise SettingError(
                data_dir, expected="a folder outside the check", found="one inside it", fix="choose another folder"
            )
        checked_files.require_whole(check_root)
    settings = {"source": os.path.realpath(source), "shards": shards, "beam": beam_options, **asdict(selection)}
    with written_aside(
        root, command="fsa corpus", settings=settings, foreign=FOREIGN, inputs=[source], overwrite=overwrite
    ) as partial:
        validation = held_out(files(source), selection)
        summary = summarise(source, selection, validation)
        building = partial / ".tfds"
        for form, splits in sorted(summary.parts.items()):
            builder = SentimentCorpus(
                config=form,
                data_dir=str(building),
                source=source,
                selection=selection,
                held_out_reviews=validation,
                splits=tuple(sorted(splits)),
                beam=beam_options is not None,
            )
            # TFDS prints where it writes, which is the folder's temporary name; its progress is on standard error.
            if not sys.stderr.isatty():
                tfds.disable_progress_bar()
            with contextlib.redirect_stdout(io.StringIO()):
                builder.download_and_prepare(download_config=_download_config(shards, beam_options))
        for entry in sorted((building / root.name).iterdir()):
            entry.rename(partial / entry.name)
        shutil.rmtree(building)
        _same_bytes_every_time(partial)
        statistics = {**summary.as_json(), "checksums": checksums.LIST}
        text = json.dumps(statistics, indent=2, ensure_ascii=False) + "\n"
        (partial / STATISTICS).write_text(text, encoding="utf-8")
        # The counts of a check cover all its parts, so they are not used if the source is a single part.
        check = _counts(check_root) if check_root is not None and source.is_dir() else None
        text = card(statistics, shown(source), asdict(selection), check, repository)
        (partial / CARD).write_text(text, encoding="utf-8")
        output_checksums.finish(partial)
    return statistics


def _same_bytes_every_time(folder: Path) -> None:
    """Rewrites every example with its features sorted by name, because their order in TFDS files is random."""
    for file in sorted(folder.rglob("*.tfrecord-*")):
        with replacing(file) as new, tf.io.TFRecordWriter(str(new)) as writer:
            for record in tf.data.TFRecordDataset(str(file)).as_numpy_iterator():
                example = tf.train.Example.FromString(record)
                writer.write(example.SerializeToString(deterministic=True))


def _counts(check_root: Path) -> dict[str, Any] | None:
    path = check_root / checked_files.COUNTS
    if not path.is_file():
        return None
    try:
        content = json.loads(path.read_text("utf-8"))
        return {"reasons": {str(reason): int(count) for reason, count in content["reasons"].items()}}
    except (OSError, ValueError, LookupError, AttributeError, TypeError, RecursionError) as error:
        raise DataError(path, expected="the counts of fsa check", found=str(error), fix=checked_files.AGAIN) from error


def _download_config(shards: int | None, beam_options: list[str] | None) -> tfds.download.DownloadConfig:
    options = None
    if beam_options is not None:
        from apache_beam.options.pipeline_options import PipelineOptions

        options = PipelineOptions(beam_options)
    return tfds.download.DownloadConfig(num_shards=shards, beam_options=options)
