"""Measures rate and memory of a million requests with ``fsa teach --endpoint`` and the fast test server.

    python benchmarks/teacher_million.py --directory /tmp/million [--reviews 1000000] [--in-flight 64]

Writes memory.csv (seconds, rows stored so far, resident MiB of the client) and prints the rate, the memory after a
tenth of the requests and at the end, and the content of the store. ``--store-only`` writes the same rows directly to
the store, without HTTP; this shows the limit for a faster engine.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from fsa_jax.common.records import Review
from fsa_jax.reviews.parquet_files import write_reviews
from fsa_jax.teacher.generation_requests import RequestMaker, SamplingSettings, Teacher, load_prompt
from fsa_jax.teacher.store.parts import StoredGeneration
from fsa_jax.teacher.store.reader import StoreReader
from fsa_jax.teacher.store.shard_files import Shard, contents
from fsa_jax.teacher.store.writer import ShardWriter

TEXT = (
    "The soup of visit {0} was lovely and came at once, but we had waited {1} minutes for a table by the door, and the "
    "waiter who brought the bill had forgotten the bread that we had asked for twice. Number {0} again? Perhaps."
)
ANSWER = 'Opinion Target 1: "soup"\nAspect: Taste\nSentiment: Positive\nReasoning: {} says so, and so does {}.\n\n' * 4


def reviews(count: int) -> Iterator[Review]:
    return (Review(id=f"r{i}", text=TEXT.format(i, i % 90), stars=1 + i % 5) for i in range(count))


def resident_mib(pid: int | str = "self") -> float:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1024
    return 0.0


def rows_stored(folder: Path, rows: dict[Path, int]) -> int:
    """Number of rows in the parts of a shard; ``rows`` caches the counts of parts."""
    for part in contents(folder).parts:
        rows.setdefault(part.path, part.rows)
    return sum(rows.values())


def through_http(directory: Path, count: int, in_flight: int) -> None:
    source, store, folder = directory / "reviews.parquet", directory / "store", directory / "store" / Shard().folder
    if not source.exists():
        write_reviews(source, reviews(count))
    server = subprocess.Popen(
        [sys.executable, str(Path(__file__).with_name("teacher_server.py"))], stdout=subprocess.PIPE, text=True
    )
    assert server.stdout is not None
    port = server.stdout.readline().strip()
    command = ["-m", "fsa_jax.cli.main", "teach", str(source), str(store), "test-teacher"]
    options = ["--endpoint", f"http://127.0.0.1:{port}/v1", "--prompts", '["analysis"]', f"--in-flight={in_flight}"]
    began = time.monotonic()
    client = subprocess.Popen([sys.executable, *command, *options])
    counted: dict[Path, int] = {}
    before = rows_stored(folder, counted)
    samples: list[tuple[float, int, float]] = []
    try:
        with (directory / "memory.csv").open("w") as log:
            while client.poll() is None:
                time.sleep(5)
                if client.poll() is None:
                    samples.append((time.monotonic() - began, rows_stored(folder, counted), resident_mib(client.pid)))
                    print(*(f"{value:.1f}" for value in samples[-1]), sep=",", file=log, flush=True)
    finally:
        client.terminate()
        client.wait()
        server.terminate()
        server.wait()
    seconds = time.monotonic() - began
    keys = {row.key for row in StoreReader(store) if row.failure is None}
    print(f"exit status {client.returncode}; {len(keys):,} of {count:,} different generations in the store")
    early = next((sample for sample in samples if sample[1] >= count / 10), samples[-1])
    peak = max(sample[2] for sample in samples)
    done = len(keys) - before
    print(f"{done:,} requests, {in_flight} in flight: {seconds:,.0f} s, {done / seconds:,.0f} requests/s")
    print(
        f"resident memory: {early[2]:.0f} MiB after {early[1]:,}, {samples[-1][2]:.0f} MiB at the end, peak {peak:.0f}"
    )
    print(f"{len(contents(folder).parts)} parts")


def store_only(directory: Path, count: int, group: int) -> None:
    maker = RequestMaker(Teacher("test-teacher", None, SamplingSettings()), [load_prompt("analysis")])
    began = time.monotonic()
    rows: list[StoredGeneration] = []
    with ShardWriter(directory / "store-only") as writer, (directory / "store-only.csv").open("w") as log:
        for number, review in enumerate(reviews(count), start=1):
            request = next(maker.requests(review))
            rows.append(_row(maker, request.key, review))
            if len(rows) == group:
                writer.append(rows)
                writer.sync()
                rows = []
            if number % 50_000 == 0:
                print(f"{time.monotonic() - began:.1f},{number},{resident_mib():.1f}", file=log, flush=True)
        writer.append(rows)
    seconds, cpu = time.monotonic() - began, time.process_time()
    print(f"{count / cpu:,.0f} rows by second of CPU time, including the creation of keys and rows")
    print(f"store alone, synced every {group} rows: {count:,} rows in {seconds:,.0f} s, {count / seconds:,.0f} rows/s")
    print(f"resident memory: {resident_mib():.0f} MiB at the end")


def _row(maker: RequestMaker, key: bytes, review: Review) -> StoredGeneration:
    teacher, prompt = maker.teacher, maker.prompts[0]
    return StoredGeneration(
        key=key,
        review_id=review.id,
        understanding=prompt.understanding,
        prompt=prompt.name,
        prompt_hash=prompt.hash,
        teacher=teacher.name,
        teacher_revision=None,
        sampling=teacher.sampling.canonical,
        seed=0,
        sample=0,
        attempt=0,
        text=ANSWER.format(*[key.hex()] * 8),
        failure=None,
        input_tokens=500,
        output_tokens=120,
        finished=time.time(),
        seconds=0.5,
        devices=0,
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--directory", type=Path, required=True, help="new folder for input, store and figures")
    parser.add_argument("--reviews", type=int, default=1_000_000)
    parser.add_argument("--in-flight", type=int, default=64)
    parser.add_argument("--store-only", action="store_true")
    options = parser.parse_args()
    options.directory.mkdir(parents=True, exist_ok=True)
    if options.store_only:
        store_only(options.directory, options.reviews, options.in_flight)
    else:
        through_http(options.directory, options.reviews, options.in_flight)
