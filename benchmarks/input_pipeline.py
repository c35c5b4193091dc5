"""Measures the input pipeline: examples per second from a cached SeqIO task to batches of the host, by packing.

    seqio_cache_tasks --tasks=fsa_analysis --tasks=fsa_rewriting --module_import=tasks --output_cache_dir=/tmp/cache
    python -m benchmarks input_pipeline --cache /tmp/cache

The pipelines are those of ``t5x.train`` with gin/distill_base.gin. They take turns, each with new batches every time.
The first round fills the buffers and does not count. The table has medians and ranges of the others.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import seqio

from fsa_jax.data.packing import BestFitEncDecFeatureConverter
from t5x.data.datasets import DatasetConfig, get_dataset

LENGTHS = {"inputs": 128, "targets": 400}
PACKINGS: dict[str, tuple[Any, dict[str, int], int]] = {
    "SeqIO's next-fit": (seqio.EncDecFeatureConverter, LENGTHS, 88),
    "best-fit": (BestFitEncDecFeatureConverter, LENGTHS, 72),
    "best-fit, longer rows": (BestFitEncDecFeatureConverter, {"inputs": 208, "targets": 640}, 40),
}
"""Converter, lengths of the rows, and the number of rows that hold about 100 examples."""


def batches(name: str, task: str) -> Iterator[dict[str, np.ndarray]]:
    """The endless batches of one packing."""
    converter, lengths, rows = PACKINGS[name]

    def made(**arguments: Any) -> Any:
        more = {"row_lengths": lengths} if lengths != LENGTHS else {}
        return converter(**arguments, **more)

    config = DatasetConfig(
        task, LENGTHS, "train", rows, shuffle=True, seed=0, use_cached=True, pack=True, module="tasks"
    )
    return get_dataset(config, 0, 1, made).as_numpy_iterator()


def main() -> None:
    """Measures and prints a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cache", required=True, help="output folder of seqio_cache_tasks")
    parser.add_argument("--task", default="fsa_distill")
    parser.add_argument("--batches", type=int, default=100, help="of a round")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    seqio.add_global_cache_dirs([options.cache])
    pipelines = {name: batches(name, options.task) for name in PACKINGS}
    speeds: dict[str, list[float]] = {name: [] for name in PACKINGS}
    filled: dict[str, list[float]] = {name: [] for name in PACKINGS}
    for number in range(options.rounds + 1):
        for name, pipeline in pipelines.items():
            examples, shares = 0, []
            began = time.perf_counter()
            for _ in range(options.batches):
                batch = next(pipeline)
                examples += int(batch["decoder_segment_ids"].max(axis=1).sum())
                shares.append(float((batch["decoder_segment_ids"] > 0).mean()))
            if number:
                speeds[name].append(examples / (time.perf_counter() - began))
                filled[name].append(statistics.mean(shares))
    print(
        f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}; {options.rounds} rounds of {options.batches} batches\n"
    )
    print("| packing | rows | examples/s | targets filled |\n| --- | --- | ---: | ---: |")
    for name, (_, lengths, rows) in PACKINGS.items():
        values = speeds[name]
        spread = f"{statistics.median(values):,.0f} ({min(values):,.0f} to {max(values):,.0f})"
        size = f"{rows} of {lengths['inputs']}/{lengths['targets']}"
        print(f"| {name} | {size} | {spread} | {statistics.mean(filled[name]):.0%} |")


if __name__ == "__main__":
    main()
