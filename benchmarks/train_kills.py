"""Kills ``t5x.train`` again and again, then checks that the run ends like an uninterrupted one.

    python benchmarks/train_kills.py --directory /tmp/kills       # 100 SIGKILLs

The run is the tiny T5 of tests/runtime with a save and an evaluation every four steps. A kill comes at a random moment:
at most two seconds after the run has logged its first step, so that a save in flight ends or not, or, one time in four,
while it is starting. After each kill every checkpoint must be readable, and the newest must not be older than before.
After the last kill the run continues to its end. Exits with status 1 unless its losses and every leaf of its last
checkpoint are bit-identical to those of the run without kills.
"""

from __future__ import annotations

import argparse
import random
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import jax
import numpy as np
import orbax.checkpoint as ocp

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "runtime"))

import tiny_run

from fsa_base.checkpoint_files import STATE
from t5x import checkpoints

PERIOD = 4


def leaves(checkpoint: Path) -> dict[str, np.ndarray]:
    """All leaves of a checkpoint by path; fails if one cannot be read."""
    with ocp.PyTreeCheckpointer() as reader:
        tree = reader.metadata(checkpoint / STATE).item_metadata.tree
        arguments = jax.tree.map(lambda _: ocp.RestoreArgs(restore_type=np.ndarray), tree)
        state = reader.restore(checkpoint / STATE, restore_args=arguments)
    return {jax.tree_util.keystr(path): np.asarray(leaf) for path, leaf in jax.tree_util.tree_leaves_with_path(state)}


def start(options: argparse.Namespace, name: str) -> subprocess.Popen[bytes]:
    log = (options.directory / f"{name}.log").open("ab")
    arguments = tiny_run.train_arguments(
        options.directory / name,
        options.steps,
        "--gin.utils.SaveCheckpointConfig.keep=3",
        f"--compilation_cache={options.directory / f'{name}-cache'}",
    )
    return tiny_run.command("t5x.train", *arguments, stderr=log)


def logged(model_dir: Path) -> tuple[int, int]:
    """Size and modification time of the metrics file; they change with every row."""
    try:
        status = (model_dir / "train" / "metrics.jsonl").stat()
    except FileNotFoundError:
        return 0, 0
    return status.st_size, status.st_mtime_ns


def kill_once(rng: random.Random, process: subprocess.Popen[bytes], model_dir: Path, startup: float) -> float:
    """Kills a run at a random moment; returns the seconds until its first step, if known."""
    began = time.monotonic()
    if startup and rng.random() < 0.25:
        time.sleep(rng.uniform(0, startup))
    else:
        before = logged(model_dir)
        while process.poll() is None and logged(model_dir) == before:
            time.sleep(0.005)
        startup = time.monotonic() - began
        time.sleep(rng.uniform(0, 2))
    process.kill()
    process.wait()
    return startup


def check_readable(model_dir: Path) -> int:
    """Reads every checkpoint; returns the step of the newest one, or -1 if there is none."""
    steps = checkpoints.checkpoint_steps(model_dir)
    for step in steps:
        found = leaves(model_dir / f"checkpoint_{step}")["['state']['step']"]
        assert found == step, f"checkpoint_{step} is of step {found}"
    return steps[-1] if steps else -1


def differences(reference: Path, killed: Path, steps: int) -> list[str]:
    """Descriptions of differences between the two runs; empty if there are none."""
    problems = []
    expected, found = (dict(tiny_run.losses(run)) for run in (reference, killed))
    if list(found) != list(expected):
        problems.append(f"{len(found)} rows of metrics instead of {len(expected)}")
    problems += [
        f"step {step}: loss {found[step]!r} instead of {loss!r}"
        for step, loss in expected.items()
        if step in found and found[step] != loss
    ][:5]
    trees = [leaves(run / f"checkpoint_{steps}") for run in (reference, killed)]
    if trees[0].keys() != trees[1].keys():
        problems.append("other leaves in the last checkpoint")
    problems += [
        f"{path} differs"
        for path, leaf in trees[0].items()
        if path in trees[1] and leaf.tobytes() != trees[1][path].tobytes()
    ]
    return problems


def main(options: argparse.Namespace) -> int:
    rng = random.Random(options.seed)
    reference, killed = options.directory / "reference", options.directory / "killed"
    options.directory.mkdir(parents=True)
    assert start(options, "reference").wait() == 0, f"see {reference}.log"
    where: Counter[str] = Counter()
    newest, startup, kills = -1, 0.0, 0
    while kills < options.kills:
        process = start(options, "killed")
        startup = kill_once(rng, process, killed, startup)
        if process.returncode >= 0:
            print(f"the run ended by itself ({process.returncode}) after {kills} kills: use more --steps")
            return 1
        kills += 1
        halves = [entry.name for entry in killed.glob("checkpoint_*.tmp-*")] if killed.exists() else []
        where["within a save or a deletion" if halves else "elsewhere"] += 1
        at = check_readable(killed)
        if at < newest:
            print(f"kill {kills}: the newest checkpoint is of step {at}, and was of step {newest}")
            return 1
        newest = at
    print(f"{kills} kills, {dict(where)}; the newest checkpoint is of step {newest} of {options.steps}", flush=True)
    assert start(options, "killed").wait() == 0, f"see {killed}.log"
    problems = differences(reference, killed, options.steps)
    print("\n".join(problems) or f"losses of {options.steps} steps and all leaves at the end are bit-equal")
    return 1 if problems else 0


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--directory", type=Path, required=True, help="new folder for both runs and their logs")
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--seed", type=int, default=0)
    sys.exit(main(parser.parse_args()))
