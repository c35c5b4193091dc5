"""Compares the time of steps during which a checkpoint is written with that of the others; fails above 1.25 times.

    python -m benchmarks checkpoint_steps --directory /tmp/steps

Each run is a process that trains a T5 of 61 million parameters (gin/models/t5_1_0_small.gin) in float32 with the
recipe's AdamW, and saves every 20 steps. Runs that write in another thread (async) and runs that wait for every save
(blocking) take turns. The first steps, while the program starts, are left out. A save runs from the copy of the state
to the end of pruning. Exits with status 1 if, in the async runs, the median of the steps during a save is more than
``--bound`` times the median of the others, or their mean more than ``--bound`` times the mean of the others.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

from _contender import ROOT, environment
from _machine import processor

PERIOD = 20
WARM_UP = 5
"""Steps at the start that are left out."""
MODES = ("async", "blocking")
T5_SMALL: dict[str, Any] = {
    "vocab_size": 32128,
    "emb_dim": 512,
    "num_heads": 8,
    "head_dim": 64,
    "mlp_dim": 2048,
    "num_encoder_layers": 6,
    "num_decoder_layers": 6,
    "mlp_activations": ("relu",),
    "logits_via_embedding": True,
}
"""gin/models/t5_1_0_small.gin, 61 million parameters; for ``tiny_run.model``."""


def measure(directory: Path, asynchronous: bool, options: argparse.Namespace) -> dict[str, Any]:
    """Trains once; returns the seconds of each step by whether a save was running, and of each save."""
    import tiny_run

    from fsa_jax.training import optim
    from t5x import checkpoints, optimizers
    from t5x.actions import BaseAction

    class Saves(checkpoints.CheckpointManager):
        times: ClassVar[list[list[float]]] = []

        def save(self, *arguments: Any, **named: Any) -> None:
            self.times.append([time.monotonic()])
            super().save(*arguments, **named)

        def prune(self) -> None:
            super().prune()
            self.times[-1].append(time.monotonic())

    class Clock(BaseAction):
        times: ClassVar[list[float]] = []

        def run(self, train_state: Any, metrics_by_task: Any) -> bool:
            self.times.append(time.monotonic())
            return False

    model = tiny_run.model(**T5_SMALL)
    model.optimizer_def = optimizers.OptaxWrapper(optim.rms_scaled_adamw(lambda step: 1e-3))
    data = tiny_run.dataset(
        batch_size=options.rows,
        task_feature_lengths={"inputs": options.lengths[0], "targets": options.lengths[1]},
    )
    tiny_run.run(
        directory,
        options.saves * PERIOD + PERIOD // 2,
        model=model,
        train_data=data,
        period=PERIOD,
        save={"keep": 2, "async_save": asynchronous, "checkpoint_manager_cls": Saves},
        actions={"TRAIN": [Clock()]},
    )
    # The first save is that of the random weights, the last that of the end, which no step follows.
    saves = [(times[0], times[1]) for times in Saves.times[1:-1]]
    during, others = [], []
    for began, ended in list(itertools.pairwise(Clock.times))[WARM_UP:]:
        running = any(began < end and start < ended for start, end in saves)
        (during if running else others).append(ended - began)
    return {"during": during, "others": others, "saves": [end - start for start, end in saves]}


def in_process(script: str, checkout: Path, directory: Path, arguments: Sequence[str]) -> dict[str, Any]:
    """What a script measures in a process of its own, with the sources of ``checkout``, as the last line of its output.

    Args:
      script: this script, or another one of this folder that measures a run.
      checkout: the checkout whose packages, and tests/runtime/tiny_run.py, are imported.
      directory: the run's folder; it is deleted before and after.
      arguments: arguments of the script besides ``--directory``.
    """
    shutil.rmtree(directory, ignore_errors=True)
    variables = environment(checkout) | {"XLA_FLAGS": ""}
    variables["PYTHONPATH"] = f"{checkout / 'tests' / 'runtime'}{os.pathsep}{variables['PYTHONPATH']}"
    command = [sys.executable, script, *arguments, "--directory", str(directory)]
    run = subprocess.run(command, env=variables, stdout=subprocess.PIPE, text=True, check=False)
    shutil.rmtree(directory, ignore_errors=True)
    if run.returncode:
        sys.exit(run.returncode)
    return json.loads(run.stdout.splitlines()[-1])


def report(mode: str, found: list[dict[str, Any]]) -> float:
    """Prints the results of one mode; returns the larger of the ratios of medians and of means."""
    during, others, saves = ([value for run in found for value in run[name]] for name in ("during", "others", "saves"))
    usual = statistics.median(others)
    ratios = statistics.median(during) / usual, statistics.mean(during) / statistics.mean(others)
    print(
        f"{mode}: {len(saves)} saves, median {statistics.median(saves):.2f} s ({min(saves):.2f} to {max(saves):.2f})\n"
        f"  {len(others)} steps without a save: median {usual:.3f} s, mean {statistics.mean(others):.3f} s "
        f"({min(others):.3f} to {max(others):.3f})\n"
        f"  {len(during)} steps during a save: median {statistics.median(during):.3f} s, mean "
        f"{statistics.mean(during):.3f} s ({min(during):.3f} to {max(during):.3f})\n"
        f"  ratio of medians {ratios[0]:.3f}, of means {ratios[1]:.3f}, slowest step during a save to the median of "
        f"the others {max(during) / usual:.3f}",
        flush=True,
    )
    return max(ratios)


def main(options: argparse.Namespace) -> int:
    if options.measure:
        print(json.dumps(measure(options.directory, options.measure == "async", options)))
        return 0
    options.directory.mkdir(parents=True, exist_ok=True)
    print(f"{processor()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}", flush=True)
    found: dict[str, list[dict[str, Any]]] = {mode: [] for mode in options.modes}
    for _ in range(options.rounds):
        for mode in options.modes:
            arguments = [*sys.argv[1:], "--measure", mode]
            found[mode].append(in_process(__file__, ROOT, options.directory / "run", arguments))
    ratios = {mode: report(mode, found[mode]) for mode in options.modes}
    return int(ratios.get("async", 0) > options.bound)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--directory", type=Path, required=True, help="folder for the temporary checkpoints")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--saves", type=int, default=4, help="saves of each run, every 20 steps")
    parser.add_argument("--modes", nargs="+", choices=MODES, default=MODES)
    parser.add_argument("--rows", type=int, default=2)
    parser.add_argument("--lengths", type=int, nargs=2, default=(64, 192), help="tokens of a row's input and target")
    parser.add_argument("--bound", type=float, default=1.25)
    parser.add_argument("--measure", choices=MODES, help=argparse.SUPPRESS)
    sys.exit(main(parser.parse_args()))
