"""Compares this checkout with another one in alternating pairs: seconds to the first step, and seconds per step.

    git worktree add /tmp/before 528859f
    python benchmarks/against.py --against /tmp/before --directory /tmp/pairs --pairs 20

Both run with this Python and its packages on the CPU, each with its own compilation cache, which is filled before the
first pair. The checkouts take turns in starting a pair. The start ends when the save of checkpoint_1 begins, right
after the first step. The seconds per step are the median over windows of 20 steps of one run, without the first two
windows. Starts are measured with the tiny reference T5. Steps are measured with a larger T5 (6 million parameters),
because a step of the tiny one takes 5 ms, of which the system's scheduler influences a tenth. The script prints the
medians and the ratio this/other: its geometric mean over the pairs, with the 95% interval of Student's t on the
logarithms.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

from scipy import stats

ROOT = Path(__file__).resolve().parents[1]
WINDOW = 20
SIXTY_MILLISECONDS = {  # a step on two cores
    "emb_dim": 256,
    "num_heads": 4,
    "head_dim": 64,
    "mlp_dim": 512,
    "num_encoder_layers": 4,
    "num_decoder_layers": 4,
}


def run(checkout: Path, model_dir: Path, cache: Path, steps: int, *bindings: str) -> float:
    """Trains the reference T5; returns the wall seconds until the save of checkpoint_1 began, if there was one."""
    environment = os.environ | {
        "JAX_PLATFORMS": "cpu",
        # Commits up to c1bc87f have no base/; Python ignores a folder that does not exist.
        "PYTHONPATH": os.pathsep.join(map(str, (checkout, checkout / "base", checkout / "runtime"))),
        "T5X_COMPILATION_CACHE": str(cache),
    }
    settings = {"MODEL_DIR": str(model_dir), "TRAIN_STEPS": steps}
    words = [sys.executable, "-m", "t5x.train", "--gin_file=tests/runtime/conformance/reference.gin"]
    words += [f"--gin.{name}={value!r}" for name, value in settings.items()]
    words += [f"--gin.{binding}" for binding in bindings]
    began = time.monotonic()
    seconds = math.nan
    with model_dir.with_suffix(".log").open("wb") as log:
        process = subprocess.Popen(words, cwd=checkout, env=environment, stdout=log, stderr=log)
        while process.poll() is None:
            if math.isnan(seconds) and list(model_dir.glob("checkpoint_1*")):
                seconds = time.monotonic() - began
            # Frequent polling would disturb a run whose steps are timed.
            time.sleep(0.005 if steps == 1 and math.isnan(seconds) else 0.1)
        if process.returncode:
            raise SystemExit(f"{checkout} failed, see {log.name}")
    return seconds


def start(checkout: Path, model_dir: Path, cache: Path, steps: int) -> float:
    """Seconds to the first step."""
    del steps
    return run(checkout, model_dir, cache, 1)


def step(checkout: Path, model_dir: Path, cache: Path, steps: int) -> float:
    """Seconds per step."""
    quiet = ("train.eval_period=100000", "utils.SaveCheckpointConfig.period=100000", f"train.stats_period={WINDOW}")
    sizes = [f"network.T5Config.{name}={value}" for name, value in SIXTY_MILLISECONDS.items()]
    run(checkout, model_dir, cache, steps, *quiet, *sizes)
    rows = map(json.loads, (model_dir / "train" / "metrics.jsonl").read_text().splitlines())
    return statistics.median([1 / row["timing/steps_per_second"] for row in rows if row["step"] > 2 * WINDOW])


MEASURES = {"start": start, "step": step}


def ratio(ours: list[float], others: list[float]) -> str:
    """The ratio over the pairs, with its interval."""
    logarithms = [math.log(one / other) for one, other in zip(ours, others, strict=True)]
    mean = statistics.fmean(logarithms)
    if len(logarithms) < 2:
        return f"{math.exp(mean):.3f} (one pair, no interval)"
    half = stats.t.ppf(0.975, len(logarithms) - 1) * statistics.stdev(logarithms) / math.sqrt(len(logarithms))
    return f"{math.exp(mean):.3f} (95% interval {math.exp(mean - half):.3f} to {math.exp(mean + half):.3f})"


def main(options: argparse.Namespace) -> None:
    options.directory.mkdir(parents=True)
    checkouts = {"this": ROOT, "other": options.against.resolve()}
    for measure in (MEASURES[name] for name in options.measures):
        seconds: dict[str, list[float]] = {name: [] for name in checkouts}
        for pair in range(-1, options.pairs):
            for name in sorted(checkouts, reverse=pair % 2 == 0):
                model_dir = options.directory / f"{measure.__name__}-{pair}-{name}"
                found = measure(checkouts[name], model_dir, options.directory / f"cache-{name}", options.steps)
                if pair >= 0:
                    seconds[name].append(found)
                    print(f"{measure.__name__}, pair {pair}, {name}: {found:.4f} s", flush=True)
        medians = ", ".join(f"{name} {statistics.median(values):.4f} s" for name, values in seconds.items())
        print(f"{measure.__doc__} Medians: {medians}; ratio {ratio(seconds['this'], seconds['other'])}", flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--against", type=Path, required=True, help="checkout to compare with")
    parser.add_argument("--directory", type=Path, required=True, help="new folder")
    parser.add_argument("--pairs", type=int, default=20)
    parser.add_argument("--measures", nargs="+", choices=MEASURES, default=list(MEASURES))
    parser.add_argument("--steps", type=int, default=200, help="number of steps of the runs that time a step")
    main(parser.parse_args())
