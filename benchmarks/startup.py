"""Measures the time from the command to the first training step: this engine and upstream T5X, alternating.

    python benchmarks/startup.py --directory /tmp/startup --upstream ENVIRONMENT/bin/python

``--upstream`` is the Python of an environment with requirements-t5x.txt; without it, only this engine is measured. Each
round starts upstream, then this engine with an empty compilation cache, then this engine with the cache of that start.
The model is the reference T5. The first step ends when the save of checkpoint_1 begins, which both engines do right
after it. The lines of output are counted in a run of six steps.
"""

from __future__ import annotations

import argparse
import os
import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).parents[1]


def environment(cache: Path) -> dict[str, str]:
    return os.environ | {"JAX_PLATFORMS": "cpu", "T5X_COMPILATION_CACHE": str(cache)}


def command(python: str, model_dir: Path, steps: int) -> list[str]:
    words = [python, "-m", "t5x.train", "--gin_file=tests/runtime/conformance/reference.gin"]
    return [*words, f"--gin.MODEL_DIR='{model_dir}'", f"--gin.TRAIN_STEPS={steps}"]


def first_step(python: str, model_dir: Path, cache: Path) -> tuple[float, float]:
    """Wall seconds to the first step, and CPU seconds of the whole run of one step."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    began = time.monotonic()
    with model_dir.with_suffix(".log").open("wb") as log:
        process = subprocess.Popen(
            command(python, model_dir, 1), cwd=ROOT, env=environment(cache), stdout=log, stderr=log
        )
        while process.poll() is None and not list(model_dir.glob("checkpoint_1*")):
            time.sleep(0.005)
        seconds = time.monotonic() - began
        if process.wait():
            raise SystemExit(f"{python} failed, see {model_dir}.log")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return seconds, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def lines(python: str, model_dir: Path, cache: Path) -> int:
    """Number of lines that a run of six steps prints."""
    run = subprocess.run(command(python, model_dir, 6), cwd=ROOT, env=environment(cache), capture_output=True)
    return len((run.stdout + run.stderr).splitlines())


def spread(values: list[float]) -> str:
    return f"{statistics.median(values):.2f} ({min(values):.2f} to {max(values):.2f})"


def main(options: argparse.Namespace) -> None:
    options.directory.mkdir(parents=True)
    ours, none = sys.executable, options.directory / "no-cache"
    engines = {"upstream": options.upstream, "ours": ours} if options.upstream else {"ours": ours}
    for name, python in engines.items():  # Also fills the disk cache.
        print(f"{name}: {lines(python, options.directory / f'lines-{name}', none)} lines for six steps", flush=True)
    names = [*(["upstream"] if options.upstream else []), "ours, cold", "ours, warm"]
    kinds: dict[str, list[tuple[float, float]]] = {name: [] for name in names}
    for turn in range(options.rounds):
        cache = options.directory / f"cache-{turn}"
        for kind in kinds:
            python = options.upstream if kind == "upstream" else ours
            kinds[kind].append(first_step(python, options.directory / f"{kind.replace(', ', '-')}-{turn}", cache))
            print(f"round {turn}, {kind}: {kinds[kind][-1][0]:.2f} s, {kinds[kind][-1][1]:.2f} s of CPU", flush=True)
    for kind, runs in kinds.items():
        ratios = [one[0] / other[0] for one, other in zip(runs, kinds[names[0]], strict=True)]
        print(
            f"{kind}: {spread([run[0] for run in runs])} s to the first step, {spread(ratios)} of {names[0]}; ", end=""
        )
        print(f"{spread([run[1] for run in runs])} s of CPU for the run")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--directory", type=Path, required=True, help="new folder")
    parser.add_argument("--upstream", help="Python of an environment with upstream T5X")
    parser.add_argument("--rounds", type=int, default=5)
    main(parser.parse_args())
