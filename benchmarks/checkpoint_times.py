"""Compares the times to save and restore a T5 of 60 million parameters with Adam's moments (720 MB) of two checkouts.

    python benchmarks/checkpoint_times.py --against ../528859f --rounds 10

Each measurement is a separate process with the sources of one checkout; the checkouts alternate. Files are written to
``--directory``, so the disk of that directory is measured; they are read while they are still in the system's cache.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from pathlib import Path

from _contender import ROOT
from checkpoint_steps import T5_SMALL, in_process

BATCH = {"encoder_input_tokens": (8, 16), "decoder_input_tokens": (8, 16), "decoder_target_tokens": (8, 16)}


def measure(directory: Path) -> dict[str, float]:
    """Saves and restores once with the sources on the path; returns the seconds."""
    import jax
    import numpy as np
    import optax
    import tiny_run

    from t5x import optimizers, partitioning, utils

    model = tiny_run.model(**T5_SMALL)
    model.optimizer_def = optimizers.OptaxWrapper(optax.adam(1e-3))
    initializer = utils.TrainStateInitializer(
        optimizer_def=model.optimizer_def,
        init_fn=model.get_initial_variables,
        input_shapes=BATCH,
        partitioner=partitioning.PjitPartitioner(num_partitions=1),
    )
    state = initializer.from_scratch(jax.random.PRNGKey(0))
    jax.block_until_ready(state.params)
    parameters = sum(int(np.prod(leaf.shape)) for leaf in jax.tree.leaves(state.params))
    manager = utils.SaveCheckpointConfig().make_manager(str(directory))
    manager.directory.mkdir(parents=True)
    began = time.monotonic()
    manager.save(state.state_dict(), 0)
    saved = time.monotonic()
    restore = utils.RestoreCheckpointConfig(path=str(directory / "checkpoint_0"), mode="specific")
    restored = initializer.from_path(restore.paths[0], restore)
    jax.block_until_ready((restored.params, restored.param_states))
    done = time.monotonic()
    size = sum(file.stat().st_size for file in directory.rglob("*") if file.is_file())
    return {"save": saved - began, "restore": done - saved, "parameters": parameters, "megabytes": size / 1e6}


def main(options: argparse.Namespace) -> None:
    if options.measure:
        print(json.dumps(measure(options.directory)))
        return
    checkouts = {"this": ROOT, "against": options.against.resolve()} if options.against else {"this": ROOT}
    options.directory.mkdir(parents=True, exist_ok=True)
    found: dict[str, list[dict[str, float]]] = {name: [] for name in checkouts}
    for turn in range(options.rounds):
        order = list(checkouts) if turn % 2 == 0 else list(checkouts)[::-1]
        for name in order:
            run = options.directory.resolve() / "run"
            found[name].append(in_process(__file__, checkouts[name], run, ["--measure"]))
    for name, rows in found.items():
        print(f"{name}: {checkouts[name]}, {rows[0]['parameters']:,} parameters, {rows[0]['megabytes']:,.0f} MB")
        for what in ("save", "restore"):
            seconds = sorted(row[what] for row in rows)
            spread = f"{seconds[0]:.2f} to {seconds[-1]:.2f}"
            print(f"  {what}: median {statistics.median(seconds):.2f} s, {spread} s in {len(seconds)} runs")
    if options.against:
        for what in ("save", "restore"):
            pairs = zip(found["this"], found["against"], strict=True)
            ratios = sorted(ours[what] / theirs[what] for ours, theirs in pairs)
            print(
                f"{what}, this / against in pairs: median {statistics.median(ratios):.3f}, "
                f"{ratios[0]:.3f} to {ratios[-1]:.3f}"
            )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--against", type=Path, help="another checkout of this repository; by default only this one is measured"
    )
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--directory", type=Path, required=True, help="folder for the temporary checkpoints")
    parser.add_argument("--measure", action="store_true", help=argparse.SUPPRESS)
    main(parser.parse_args())
