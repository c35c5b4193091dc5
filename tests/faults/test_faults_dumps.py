"""Dumps in all formats of ``fsa sample``, damaged or with odd values: nothing stops it, and every row is counted."""

from __future__ import annotations

import json
import random
import resource
from collections.abc import Callable
from pathlib import Path

import pytest
from campaign import Campaign
from damage import damaged
from odd_dumps import FORMATS

from fsa_base.errors import DataError
from fsa_jax.cli.sample import command
from fsa_jax.reviews.domains import DEFAULT_RULES, DomainRules
from fsa_jax.reviews.filters import Filters
from fsa_jax.reviews.lines import lines
from fsa_jax.reviews.parquet_files import read_reviews
from fsa_jax.reviews.raw_row import BadRow
from fsa_jax.reviews.row_to_review import Fields
from fsa_jax.reviews.sample import SampleSettings, sample
from fsa_jax.reviews.sample_report import as_json
from fsa_jax.reviews.source import Losses, ReviewReader, Source
from fsa_jax.teacher.job import read_reviews as read_dump

ROWS = 12
MEMORY_GIB = 0.7
"""Limit on the growth of the process's peak memory during the campaign."""


def sampled(path: Path, rng: random.Random) -> dict:
    """Samples a dump, checks that the counts of the report add up, and returns what the report says about the dump."""
    output = path.parent / "out" / "sample.parquet"
    output.parent.mkdir(exist_ok=True)
    size = rng.choice([5, 1000, 10**12])
    ratio = None if rng.random() < 0.8 else {"3": 1.0, "4": 1.0}
    longest = rng.choice([4000, 4000, 10**9])
    if rng.random() < 0.2:
        command(
            [str(path)],
            output,
            size=size,
            stars_ratio=ratio,
            shortfall="fill",
            language="en" if rng.random() < 0.2 else None,
            min_characters=1,
            max_characters=longest,
            overwrite=True,
        )
        report = json.loads(output.with_suffix(".report.json").read_text("utf-8"))
    else:
        # The same without options, locks and printed tables, which take most of the time.
        reader = ReviewReader(Fields({}), Filters(1, longest, None), DomainRules(DEFAULT_RULES), {})
        settings = SampleSettings(size, ratio, None, None, 0.5, 0.8, "fill", 0)
        report = as_json(sample([Source(str(path))], reader, settings, output), {})
    (file,) = report["files"].values()
    assert file["rows"] == file["kept"] + sum(file["dropped"].values())
    assert file["kept"] == report["size"] + sum(report["dropped_candidates"].values())
    assert all(count >= 0 for count in report["dropped_candidates"].values())
    assert report["size"] == len(list(read_reviews(output)))
    return file


def taught(path: Path) -> None:
    """Reads a dump like ``fsa teach``, and checks the same sums."""
    losses = Losses()
    kept = list(read_dump([Source(str(path))], losses))
    assert losses.read == losses.kept + losses.dropped.total() and losses.kept == len(kept)


def peak_gib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


@pytest.fixture
def memory() -> object:
    before = peak_gib()
    yield
    assert peak_gib() < before + MEMORY_GIB


@pytest.mark.parametrize("name", FORMATS)
def test_odd_values(
    name: str, campaign: Campaign, rng: random.Random, cases: Callable[[int, int], int], tmp_path: Path, memory: object
) -> None:
    for number in range(cases(5, 150)):
        content = FORMATS[name](rng, ROWS)
        path = tmp_path / name
        path.write_bytes(content)

        def attempt(path: Path = path) -> str:
            try:
                file = sampled(path, rng)
            except DataError as error:
                # If no row has a review, this is an error that gives the reasons.
                assert "at least one review" in str(error) or "columns with different" in str(error)
                return "no review"
            finally:
                taught(path)
            # A CSV row with several lines, of which one is too long, is counted line by line.
            assert file["rows"] == ROWS or (file["rows"] > ROWS and "line longer than 4 MB" in file["dropped"]), file
            return "rows dropped" if file["dropped"] else "all rows kept"

        campaign.run(f"case {number}", attempt)


@pytest.mark.parametrize("name", FORMATS)
def test_damage(
    name: str, campaign: Campaign, rng: random.Random, cases: Callable[[int, int], int], tmp_path: Path, memory: object
) -> None:
    for number in range(cases(8, 300)):
        whole = FORMATS[name](rng, ROWS)
        path = tmp_path / name
        path.write_bytes(whole)
        before = list(lines(path))
        said, content = damaged(whole, rng)
        path.write_bytes(content)

        def attempt(path: Path = path, before: list[bytes | BadRow] = before) -> str:
            file = sampled(path, rng)
            taught(path)
            told = any(word in reason for reason in file["dropped"] for word in ("broken", "damaged", "checksum"))
            if path.suffix == ".parquet":
                assert file["rows"] == ROWS or told, file
            elif path.suffix in (".jsonl", ".json"):
                content = path.read_bytes()
                assert file["rows"] == content.count(b"\n") + (not content.endswith(b"\n")), file
            elif path.suffix in (".gz", ".zst"):
                # Both formats have checksums of the decompressed text.
                assert told or list(lines(path)) == before, file
            return "rows dropped" if file["dropped"] else "all rows kept"

        campaign.run(f"case {number}, {said}", attempt)
