"""Runs fsa sample on a generated dump: checks the rating ratio, and whether memory stays constant.

    python benchmarks/sample_dump.py --rows 1500000 --size 100000

Writes a gzipped JSONL dump with a realistic star distribution (45% five stars), samples it in this process, and prints
resident memory over time, its peak, and the resulting ratio.
"""

from __future__ import annotations

import argparse
import gzip
import json
import random
import resource
import tempfile
import time
from pathlib import Path

from fsa_jax.reviews.domains import DEFAULT_RULES, DomainRules
from fsa_jax.reviews.filters import Filters
from fsa_jax.reviews.row_to_review import Fields
from fsa_jax.reviews.sample import SampleSettings, sample
from fsa_jax.reviews.source import ReviewReader, Source
from fsa_jax.reviews.strata import PAPER_STARS_RATIO
from fsa_jax.text.words import words

WORDS = words(
    "the food was service great bad place nice slow waiter laptop screen battery keyboard pizza and with table "
    "friendly staff came back again would order order drinks price quick never always menu chicken salad fries "
    "burger cold hot fresh time people good really think"
)


def write_dump(path: Path, rows: int) -> None:
    rng = random.Random(1)
    with gzip.open(path, "wt", compresslevel=1) as file:
        for number in range(rows):
            stars = rng.choices([1, 2, 3, 4, 5], [10, 8, 12, 25, 45])[0]
            text = "I " + " ".join(rng.choices(WORDS, k=rng.randint(10, 80))) + "."
            file.write(json.dumps({"review_id": f"r{number}", "stars": stars, "text": text}) + "\n")


def resident_mib() -> int:
    return int(Path("/proc/self/status").read_text().split("VmRSS:")[1].split()[0]) // 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--rows", type=int, default=1_500_000)
    parser.add_argument("--size", type=int, default=100_000)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        dump = Path(folder) / "dump.jsonl.gz"
        write_dump(dump, options.rows)
        start = time.monotonic()

        def progress(phase: str, rows: int) -> None:
            if rows % (options.rows // 5) == 0:
                print(f"{phase} {rows:>9,} rows  {time.monotonic() - start:6.0f} s  {resident_mib()} MiB", flush=True)

        report = sample(
            [Source(str(dump))],
            ReviewReader(Fields({}), Filters(), DomainRules(DEFAULT_RULES), {}),
            SampleSettings(options.size, PAPER_STARS_RATIO, None, None, 0.5, 0.8, "shrink", 0),
            Path(folder) / "sample.parquet",
            progress,
        )
        seconds = time.monotonic() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    print(f"{options.rows:,} rows in {seconds:.0f} s, peak {peak} MiB")
    for stratum, taken in report.taken.items():
        print(f"{stratum}: {taken / report.size:.4f}, asked {report.asked[stratum] / options.size:.4f}")


if __name__ == "__main__":
    main()
