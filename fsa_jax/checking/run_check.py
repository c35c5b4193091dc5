"""A whole check, from its inputs to its output folder."""

from __future__ import annotations

import json
import os
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

from fsa_base import checksums
from fsa_base.errors import MissingDataError, SettingError
from fsa_jax.checking import check_generations
from fsa_jax.checking.assess import CheckSettings
from fsa_jax.checking.checked_files import COUNTS, FOREIGN, PAGE
from fsa_jax.checking.page import render
from fsa_jax.checking.statistics import Statistics
from fsa_jax.common.atomic_directory import written_aside
from fsa_jax.common.output_checksums import finish
from fsa_jax.common.paths import shown
from fsa_jax.common.records import Review
from fsa_jax.reviews.parquet_files import is_review_file, read_reviews
from fsa_jax.teacher.store.reader import StoreReader


def check(
    source: Path | str,
    output: Path | str,
    reviews: Path | str | None = None,
    settings: CheckSettings | None = None,
    *,
    workers: int | None = None,
    overwrite: bool = False,
    progress: Callable[[str, int], None] = lambda phase, rows: None,
) -> Statistics:
    """Checks teacher text against its reviews; does what ``fsa check`` does, and prints nothing.

    Writes ``output/kept`` and ``output/dropped`` (Parquet parts with scores and reasons), ``check.json`` (counts),
    ``check.html`` and checksums. The output appears only when it is complete.

    Args:
      source: store of ``fsa teach``, or a file or folder in the papers' released layout.
      output: output folder.
      reviews: the reviews of a store's generations: the file or folder that ``fsa teach`` has read.
      settings: thresholds; None for the default ones.
      workers: number of processes; None for one per core. The result does not depend on it.
      overwrite: whether to replace an earlier check, or the unfinished one of other inputs or settings.
      progress: called every 500 rows with the phase (``check`` or ``write``) and the number of rows done.

    Returns:
      The counts: ``rows``, ``verdicts()``, ``reasons()``, ``repairs()``, and ``skipped`` for rows that were not read.

    Raises:
      SettingError: a setting is unusable, the reviews of a store are missing, or the output is refused.
      DataError: an input is missing or cannot be read.
    """
    source, output = Path(source), Path(output)
    if not source.exists():
        raise MissingDataError(
            source,
            expected="a store of fsa teach, or a file or folder in the released layout",
            found="nothing",
            fix="check the path",
        )
    is_store = check_generations.is_store(source)
    if is_store and reviews is None:
        raise SettingError(
            "--reviews", expected="the reviews of this store", found="none", fix="give the file that fsa teach has read"
        )
    if workers is None:
        workers = len(os.sched_getaffinity(0))
    elif workers < 1:
        raise SettingError("--workers", expected="at least 1", found=str(workers), fix="omit it to use all cores")
    settings = settings or CheckSettings()
    skipped: Counter[str] = Counter()
    unused_reviews: Counter[str] = Counter()
    inputs = [source] if reviews is None else [source, Path(reviews)]
    noted = {**settings.model_dump(), "inputs": [os.path.realpath(path) for path in inputs]}
    with written_aside(
        output, command="fsa check", settings=noted, foreign=FOREIGN, inputs=inputs, overwrite=overwrite
    ) as folder:
        if is_store and reviews is not None:
            with (
                tempfile.TemporaryDirectory(dir=folder) as scratch,
                closing(
                    check_generations.ReviewIndex(
                        Path(scratch) / "reviews.sqlite", _reviews(Path(reviews), unused_reviews), unused_reviews
                    )
                ) as index,
            ):
                pairs = check_generations.from_store(StoreReader(source), index, skipped)
                statistics = check_generations.check(pairs, settings, folder, progress, workers)
        else:
            pairs = check_generations.released(source, skipped)
            statistics = check_generations.check(pairs, settings, folder, progress, workers)
        statistics.skipped, statistics.unused_reviews = skipped, unused_reviews
        counts = {
            "source": shown(source),
            "settings": settings.model_dump(),
            "checksums": checksums.LIST,
            **statistics.as_json(),
        }
        (folder / COUNTS).write_text(json.dumps(counts, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
        (folder / PAGE).write_text(render(statistics, settings, shown(source)), encoding="utf-8")
        finish(folder)
    return statistics


def _reviews(path: Path, unused: Counter[str]) -> Iterator[Review]:
    return read_reviews(path) if is_review_file(path) else check_generations.reviews_of_dump(path, unused)
