"""Compares the training step of a T5 with PyTorch's and with that of an earlier commit, in alternating rounds.

    git worktree add /tmp/before 528859f
    FSA_DATA_DIR=../shared/data .venv-parity/bin/python -m benchmarks training_step --before /tmp/before

All contenders start with the same weights and train on the released teacher text, cut at 128/400 tokens, with dropout.
Each is a process that waits while another one works; in every round each gets its turn, and the order rotates. Before,
each must find the same loss for the same examples, without dropout. The table shows examples and real target tokens per
second (median and range of the rounds), and their ratio to the fastest plain PyTorch (geometric mean and range of the
ratios within a round). Needs the environment of ``make parity``.

``ours`` is the step of ``t5x.train`` with the recipe's optimizer, on rows that are packed best-fit; ``before`` the same
of another checkout, on rows that SeqIO packed, as its recipes do. ``transformers N`` is T5ForConditionalGeneration with
PyTorch's AdamW on N examples, padded to the longest. Batches are made before the rounds. All keep freed memory, as
``fsa train`` does. Dropout differs: PyTorch draws a mask for every position, ours, like T5X's, one for all positions of
a row.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

from _machine import processor

from fsa_jax.common.training_engine import KEEPING_MEMORY

ROOT = Path(__file__).resolve().parents[1]
WARM_UP = 3
"""Steps before the first round. The second may compile again, because the state has another layout than the first."""
TOLERANCE = 1e-3
"""Largest relative difference between the losses of two contenders."""


class Contender:
    """A process of benchmarks/steps that trains when it is asked.

    Args:
      name: name in the table.
      command: its command line.
      checkout: the checkout whose packages it imports.
    """

    def __init__(self, name: str, command: Sequence[str], checkout: Path = ROOT) -> None:
        self.name = name
        self.turns: list[dict[str, float]] = []
        self._log = tempfile.TemporaryFile("w+")  # noqa: SIM115 - it lives as long as the process
        self._process = subprocess.Popen(
            [sys.executable, *command],
            env=environment(checkout),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
        )
        self.loss: float = self._answer()["loss"]

    def train(self, seconds: float) -> None:
        """Trains for about ``seconds``, whole steps, and stores examples and tokens per second."""
        found = self._ask({"seconds": seconds})
        self.turns.append({unit: found[unit] / found["seconds"] for unit in ("examples", "tokens")})

    def close(self) -> None:
        """Ends the process."""
        self._process.communicate()

    def _ask(self, question: Mapping[str, Any]) -> dict[str, float]:
        assert self._process.stdin is not None
        print(json.dumps(question), file=self._process.stdin, flush=True)
        return self._answer()

    def _answer(self) -> dict[str, float]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            self._log.seek(0)
            sys.exit(f"{self.name} ended:\n{self._log.read()[-3000:]}")
        return json.loads(line)


def environment(checkout: Path) -> dict[str, str]:
    """The environment in which the packages of a checkout are imported."""
    packages = (checkout, checkout / "base", checkout / "runtime")
    return os.environ | KEEPING_MEMORY | {"PYTHONPATH": os.pathsep.join(map(str, packages))}


def table(contenders: Sequence[Contender], against: Sequence[str]) -> str:
    """Markdown: speeds of all contenders, and ratios to the fastest of those that ``against`` names."""
    by_name = {contender.name: contender for contender in contenders}
    peer = max((by_name[name] for name in against), key=lambda one: _median(one, "examples"))
    lines = [
        f"| contender | examples/s | real target tokens/s | ratio to {peer.name} |",
        "| --- | ---: | ---: | ---: |",
    ]
    for one in contenders:
        ratios = [mine["examples"] / theirs["examples"] for mine, theirs in zip(one.turns, peer.turns, strict=True)]
        cells = [_spread(one, "examples", "{:.2f}"), _spread(one, "tokens", "{:.0f}")]
        ratio = f"{statistics.geometric_mean(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"
        lines.append(f"| {one.name} | {' | '.join(cells)} | {ratio} |")
    return "\n".join(lines)


def _median(contender: Contender, unit: str) -> float:
    return statistics.median(turn[unit] for turn in contender.turns)


def _spread(contender: Contender, unit: str, form: str) -> str:
    values = [turn[unit] for turn in contender.turns]
    return f"{form} ({form} to {form})".format(statistics.median(values), min(values), max(values))


def machine() -> str:
    """Processor, cores, load and versions."""
    versions = ", ".join(f"{name} {metadata.version(name)}" for name in ("jax", "torch", "transformers"))
    return f"{processor()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}, {versions}"


def main() -> None:
    """Runs the comparison, prints the table, and appends it to ``--results``."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", default="small", choices=("tiny", "small", "base"))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=15, help="of each turn")
    parser.add_argument("--rows", type=int, default=8, help="packed rows per step")
    parser.add_argument("--row_lengths", type=int, nargs=2, default=(128, 400))
    parser.add_argument("--peer_batch_sizes", type=int, nargs="+", default=[4, 8])
    parser.add_argument("--before", type=Path, help="another checkout")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--results", type=Path, help="append the table to this file")
    options = parser.parse_args()
    where = machine()
    with tempfile.TemporaryDirectory() as folder:
        steps = ROOT / "benchmarks" / "steps"
        lengths = [str(length) for length in options.row_lengths]
        prepare = ["-m", "benchmarks.steps.prepare", folder, "--size", options.size, "--seed", str(options.seed)]
        command = [sys.executable, *prepare, "--row_lengths", *lengths]
        subprocess.run(command, cwd=ROOT, env=environment(ROOT), check=True)
        rows = str(options.rows)
        contenders = [Contender("ours", [str(steps / "jax_step.py"), folder, "best_fit", rows, str(ROOT)])]
        if options.before:
            before = options.before.resolve()
            command = [str(steps / "jax_step.py"), folder, "next_fit", rows, str(before)]
            contenders.append(Contender(f"before ({before.name})", command, before))
        plain = [f"transformers {size}" for size in options.peer_batch_sizes]
        for name, size in zip(plain, options.peer_batch_sizes, strict=True):
            contenders.append(Contender(name, [str(steps / "torch_step.py"), folder, str(size)]))
        for one in contenders:
            if abs(one.loss / contenders[0].loss - 1) > TOLERANCE:
                sys.exit(f"{one.name} has a loss of {one.loss}, ours is {contenders[0].loss}")
            for _ in range(WARM_UP):
                one.train(0)
            one.turns.clear()
        for number in range(options.rounds):
            first = number % len(contenders)
            for one in (*contenders[first:], *contenders[:first]):
                one.train(options.seconds)
            print(".", end="", file=sys.stderr, flush=True)
        for one in contenders:
            one.close()
    command = " ".join(["python -m benchmarks training_step", *sys.argv[1:]])
    said = f"`{command}`\n\n{where}; {options.rounds} rounds; losses before training agree: {contenders[0].loss:.4f}\n"
    text = f"{said}\n{table(contenders, plain)}\n"
    print(text)
    if options.results:
        with options.results.open("a", encoding="utf-8") as stream:
            stream.write(f"\n{text}")


if __name__ == "__main__":
    main()
