"""Compares the training step of a student with PyTorch's and with that of an earlier commit, in alternating rounds.

    git worktree add /tmp/before 528859f
    FSA_DATA_DIR=../shared/data .venv-parity/bin/python -m benchmarks training_step --before /tmp/before
    … -m benchmarks training_step --model decoder --size 100m --tuned_batch_sizes 4

All contenders start with the same weights and train on the released teacher text, cut at 128/400 tokens, with dropout.
Each is a process that waits while another one works; in every round each gets its turn, and the order rotates. Before,
each must find the same loss for the same examples, without dropout. The table shows examples and real target tokens per
second (median and range of the rounds), and their ratios to the fastest plain and to the fastest tuned PyTorch
(geometric mean and range of the ratios within a round). Needs the environment of ``make parity``.

``ours`` is the step of ``t5x.train`` with the recipe's optimizer, on rows that are packed best-fit; ``before`` the same
of another checkout, on rows that SeqIO packed, as its recipes do. ``transformers N`` is the same model of transformers
with PyTorch's AdamW on N examples, padded to the longest; ``tuned N`` is compiled, has a fused optimizer, and N
examples of similar length in a batch, in ``--shapes`` shapes, all of which are compiled before the rounds (on a CPU
this takes minutes). Batches are made before the rounds. All keep freed memory, as ``fsa train`` does. Dropout differs:
PyTorch draws a mask for every position, ours, like T5X's, one for all positions of a row; decoder-only models have
none. All models read T5's tokens. In bfloat16, parameters and optimizer states stay float32 (PyTorch: autocast).
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path

from _contender import ROOT, STEPS, UNITS, Contender, ContenderError, environment
from _machine import processor

WARM_UP = 2
"""Turns before the first round. The first compiles, and a turn of the tuned PyTorch goes through all its shapes."""
TOLERANCE = {"float32": 1e-3, "bfloat16": 1e-2}
"""Largest relative difference between the losses of two contenders, by the dtype of the activations."""


def table(contenders: Sequence[Contender], groups: Sequence[Sequence[str]]) -> str:
    """Markdown: speeds of all contenders, and ratios to the fastest of each group of names."""
    by_name = {contender.name: contender for contender in contenders}
    peers = [max((by_name[name] for name in group), key=lambda one: _median(one, "examples")) for group in groups]
    heads = [f"{unit}, ratio to {peer.name}" for peer in peers for unit in ("examples", "tokens")]
    lines = [
        f"| contender | examples/s | real target tokens/s | {' | '.join(heads)} |",
        f"| --- |{' ---: |' * (2 + len(heads))}",
    ]
    for one in contenders:
        cells = [_spread(one, "examples", "{:.2f}"), _spread(one, "tokens", "{:.0f}")]
        cells += [_ratio(one, peer, unit) for peer in peers for unit in ("examples", "tokens")]
        lines.append(f"| {one.name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _ratio(one: Contender, peer: Contender, unit: str) -> str:
    pace = f"{unit}_per_second"
    ratios = [mine[pace] / theirs[pace] for mine, theirs in zip(one.turns, peer.turns, strict=True)]
    return f"{statistics.geometric_mean(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"


def _median(contender: Contender, unit: str) -> float:
    return statistics.median(turn[f"{unit}_per_second"] for turn in contender.turns)


def _spread(contender: Contender, unit: str, form: str) -> str:
    values = [turn[f"{unit}_per_second"] for turn in contender.turns]
    return f"{form} ({form} to {form})".format(statistics.median(values), min(values), max(values))


def machine() -> str:
    """Processor, cores, load and versions."""
    versions = ", ".join(f"{name} {metadata.version(name)}" for name in ("jax", "torch", "transformers"))
    return f"{processor()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}, {versions}"


def write(options: argparse.Namespace, folder: str) -> None:
    """Writes weights and text to the folder."""
    lengths = [str(length) for length in options.row_lengths]
    of_model = ["--model", options.model, "--seed", str(options.seed)]
    running = [
        subprocess.Popen(
            [sys.executable, "-m", f"benchmarks.steps.{script}", folder, *of_model, *more],
            cwd=ROOT,
            env=environment(ROOT),
        )
        for script, more in (("weights", ["--size", options.size]), ("prepare", ["--row_lengths", *lengths]))
    ]
    codes = [process.wait() for process in running]
    if any(codes):
        sys.exit("no weights or no text: see above")


def contenders_of(options: argparse.Namespace, folder: str) -> tuple[list[Contender], list[list[str]]]:
    """Starts all contenders; also returns the names of the plain and of the tuned ones of PyTorch."""
    device, rows = options.device, str(options.rows)
    ours, theirs = str(STEPS / "jax_step.py"), str(STEPS / "torch_step.py")
    dtype = ["--dtype", options.dtype]
    found = [Contender("ours", [ours, folder, "best_fit", rows, str(ROOT), *dtype], device=device)]
    if options.before:
        before = options.before.resolve()
        command = [ours, folder, "next_fit", rows, str(before), *dtype]
        found.append(Contender(f"before ({before.name})", command, before, device))
    plain = {f"transformers {size}": size for size in options.peer_batch_sizes}
    tuned = {f"tuned {size}": size for size in options.tuned_batch_sizes}
    more = [*dtype, "--device", device, "--accumulate", str(options.accumulate)]
    for name, size in plain.items():
        found.append(Contender(name, [theirs, folder, str(size), *more], device=device))
    for name, size in tuned.items():
        command = [theirs, folder, str(size), "--tuned", str(options.shapes), *dtype, "--device", device]
        found.append(Contender(name, command, device=device))
    return found, [list(names) for names in (plain, tuned) if names]


def main() -> None:
    """Runs the comparison, prints the table, and appends it to ``--results``."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="t5", choices=("t5", "decoder"))
    parser.add_argument("--size", default="small", help="tiny, small, base; of a decoder: tiny, 100m, 0.5b, 1b")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=15, help="of each turn")
    parser.add_argument("--rows", type=int, default=8, help="packed rows per step")
    parser.add_argument("--row_lengths", type=int, nargs=2, default=(128, 400), help="of inputs and targets")
    parser.add_argument("--peer_batch_sizes", type=int, nargs="+", default=[4, 8])
    parser.add_argument("--accumulate", type=int, default=1, help="batches per step of the plain PyTorch")
    parser.add_argument("--tuned_batch_sizes", type=int, nargs="+", default=[])
    parser.add_argument("--shapes", type=int, default=4, help="shapes of the tuned PyTorch")
    parser.add_argument("--device", default="cpu", help="as JAX and PyTorch name it: cpu or cuda")
    parser.add_argument("--dtype", default="float32", choices=TOLERANCE)
    parser.add_argument("--before", type=Path, help="another checkout")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--results", type=Path, help="append the table to this file")
    try:
        compare(parser.parse_args())
    except ContenderError as error:
        sys.exit(str(error))


def compare(options: argparse.Namespace) -> None:
    """Lets the contenders of these options train, and reports their speeds."""
    where = machine()
    with tempfile.TemporaryDirectory() as folder:
        write(options, folder)
        contenders, groups = contenders_of(options, folder)
        # They started at the same time, so all losses are awaited before anything is timed.
        for one in contenders:
            if abs(one.loss / contenders[0].loss - 1) > TOLERANCE[options.dtype]:
                sys.exit(f"{one.name} has a loss of {one.loss}, ours is {contenders[0].loss}")
        for one in contenders:
            for _ in range(WARM_UP):
                one.train(0)
            one.turns.clear()
        for number in range(options.rounds):
            first = number % len(contenders)
            for one in (*contenders[first:], *contenders[:first]):
                one.train(options.seconds)
                speeds = ", ".join(f"{one.turns[-1][f'{unit}_per_second']:.2f} {unit}/s" for unit in UNITS)
                print(f"round {number + 1}: {one.name}: {speeds}", file=sys.stderr, flush=True)
        for one in contenders:
            one.close()
    command = " ".join(["python -m benchmarks training_step", *sys.argv[1:]])
    said = f"`{command}`\n\n{where}; {options.rounds} rounds; losses before training agree: {contenders[0].loss:.4f}\n"
    text = f"{said}\n{table(contenders, groups)}\n"
    print(text)
    if options.results:
        with options.results.open("a", encoding="utf-8") as stream:
            stream.write(f"\n{text}")


if __name__ == "__main__":
    main()
