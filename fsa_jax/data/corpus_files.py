"""Building ``sentiment_corpus`` on disk: both forms, statistics and the dataset card."""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict
from pathlib import Path
from typing import Any

import tensorflow_datasets as tfds

from fsa_jax.corpus.rows import Selection, files, held_out_below
from fsa_jax.corpus.statistics import card, summarise
from fsa_jax.data.sentiment_corpus import SentimentCorpus
from fsa_jax.errors import SettingError

CARD = "README.md"
STATISTICS = "statistics.json"


def build(
    source: Path,
    data_dir: Path,
    selection: Selection,
    *,
    shards: int | None = None,
    beam_options: list[str] | None = None,
    overwrite: bool = False,
) -> dict[str, Any]:
    """Builds the corpus under ``data_dir/sentiment_corpus`` and returns its statistics.

    Args:
      source: output of ``fsa check``, or a file in the released layout.
      data_dir: TFDS data directory.
      selection: which rows.
      shards: files a split; None lets TFDS choose by size.
      beam_options: Beam pipeline options; None builds in this process.
      overwrite: replace a corpus that is there.

    Raises:
      SettingError: there is one already, and ``overwrite`` is not set.
      DataError: no row is selected.
    """
    root = data_dir / "sentiment_corpus"
    # The card is written last: a folder without it is a build that was cut short, and nobody's corpus.
    if (root / CARD).exists() and not overwrite:
        raise SettingError(
            root, expected="no corpus", found="one that is there", fix="name another folder or add --overwrite true"
        )
    held_out = held_out_below(files(source), selection)
    summary = summarise(source, selection, held_out)
    if root.exists():
        shutil.rmtree(root)
    for form, splits in sorted(summary.parts.items()):
        builder = SentimentCorpus(
            config=form,
            data_dir=str(data_dir),
            source=source,
            selection=selection,
            held_out_hash=held_out,
            splits=tuple(sorted(splits)),
            beam=beam_options is not None,
        )
        builder.download_and_prepare(download_config=_download_config(shards, beam_options))
    statistics = summary.as_json()
    check_file = source / "check.json"
    check = json.loads(check_file.read_text("utf-8")) if check_file.is_file() else None
    (root / STATISTICS).write_text(json.dumps(statistics, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    (root / CARD).write_text(card(statistics, str(source), asdict(selection), check), encoding="utf-8")
    return statistics


def _download_config(shards: int | None, beam_options: list[str] | None) -> tfds.download.DownloadConfig:
    options = None
    if beam_options is not None:
        from apache_beam.options.pipeline_options import PipelineOptions

        options = PipelineOptions(beam_options)
    return tfds.download.DownloadConfig(num_shards=shards, beam_options=options)
