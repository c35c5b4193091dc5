"""Measures ``fsa check``: rows per second with one process and with several, alternating; compares the output files.

    python benchmarks/check_rows.py --directory /tmp/check [--reviews 20000] [--workers 2] [--pairs 3]

The teacher text is that of the oracle about a generated world, with two rows per review. Each run is a separate
process.
"""

from __future__ import annotations

import argparse
import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path

from fsa_jax.synthetic.files import write_teacher_text
from fsa_jax.synthetic.oracle import Oracle
from fsa_jax.synthetic.world import draw_reviews


def run(source: Path, output: Path, workers: int) -> tuple[float, float, float]:
    """Seconds, seconds of CPU time, and largest resident memory of all processes so far in MiB."""
    command = [sys.executable, "-m", "fsa_jax.cli.main", "check", str(source), str(output), "--workers", str(workers)]
    command += ["--overwrite"]
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    subprocess.run(command, check=True, capture_output=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return time.monotonic() - began, cpu, after.ru_maxrss / 1024


def main(options: argparse.Namespace) -> int:
    source = write_teacher_text(options.directory, draw_reviews(0, options.reviews), Oracle())
    with source.open("rb") as file:
        rows = sum(1 for _ in file)
    ratios, same = [], True
    for pair in range(options.pairs):
        seconds = {}
        for workers in (1, options.workers) if pair % 2 == 0 else (options.workers, 1):
            seconds[workers], cpu, memory = run(source, options.directory / f"out-{workers}", workers)
            print(
                f"{workers} processes: {rows:,} rows in {seconds[workers]:.1f} s, {rows / seconds[workers]:,.0f}/s, "
                f"{rows / cpu:,.0f} rows by second of CPU time, {memory:.0f} MiB",
                flush=True,
            )
        ratios.append(seconds[1] / seconds[options.workers])
        one, many = (options.directory / f"out-{workers}" for workers in (1, options.workers))
        files = sorted(path.relative_to(one) for path in one.rglob("*") if path.is_file())
        same &= files == sorted(path.relative_to(many) for path in many.rglob("*") if path.is_file())
        same &= all((one / name).read_bytes() == (many / name).read_bytes() for name in files)
    print(
        f"{options.workers} processes are {statistics.median(ratios):.2f} times as fast as one "
        f"({min(ratios):.2f} to {max(ratios):.2f}); the files are {'the same' if same else 'DIFFERENT'}"
    )
    return 0 if same else 1


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--directory", type=Path, required=True, help="new folder for input and output")
    parser.add_argument("--reviews", type=int, default=20_000)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--pairs", type=int, default=3)
    sys.exit(main(parser.parse_args()))
