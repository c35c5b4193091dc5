"""Compares decoding with a distilled T5: ours in JAX, CTranslate2 in float32 and int8, and transformers' ``generate``.

    .venv-parity/bin/python -m benchmarks decoding --model runs/student --reviews reviews.csv --vocabulary spiece.model

First bare decoding, from token ids to token ids, greedy: a process for each contender loads the student once and then
waits while another one works. Each round decodes all reviews with every contender, in an order that rotates. The table
shows the seconds to load, the seconds of the first pass (which compiles, for ours), reviews per second of later passes
(median and range), their ratio to transformers, and how many outputs differ from those of transformers. Then whole
commands, ``fsa predict`` in JAX and with CTranslate2, in turn: seconds from start to end.

vLLM has no T5, so it is not a contender. Needs the environment of ``make parity``.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from importlib import metadata
from itertools import islice
from pathlib import Path
from typing import Any

from _machine import processor

from fsa_jax.serving.inputs import read_rows
from fsa_jax.serving.student import load_student

FOLDER = Path(__file__).parent


class Contender:
    """A process that decodes when it is asked.

    Attributes:
      loading: seconds until it was ready.
      passes: seconds of each pass over the reviews.
      outputs: token ids of the last pass.
    """

    def __init__(self, name: str, words: list[str]) -> None:
        self.name, self.passes, self.outputs = name, list[float](), list[list[int]]()
        self._log = tempfile.TemporaryFile("w+")  # noqa: SIM115 - it lives as long as the process
        began = time.perf_counter()
        self._process = subprocess.Popen(
            [sys.executable, str(FOLDER / "_decoder.py"), *words],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
        )
        self._answer()
        self.loading = time.perf_counter() - began

    def decode(self) -> None:
        """One pass over the reviews."""
        assert self._process.stdin is not None
        print(file=self._process.stdin, flush=True)
        found = self._answer()
        self.passes.append(found["seconds"])
        self.outputs = found["outputs"]

    def close(self) -> None:
        """Ends the process."""
        self._process.communicate()

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            self._log.seek(0)
            sys.exit(f"{self.name} ended:\n{self._log.read()[-3000:]}")
        return json.loads(line)


def timed(command: list[str]) -> float:
    """Seconds of a command."""
    began = time.perf_counter()
    run = subprocess.run(command, capture_output=True, text=True)
    if run.returncode:
        sys.exit(f"{' '.join(command)}\n{run.stderr}")
    return time.perf_counter() - began


def spread(values: list[float], form: str = "{:.1f}") -> str:
    """Median and range."""
    return f"{form} ({form} to {form})".format(statistics.median(values), min(values), max(values))


def table(contenders: list[Contender], reviews: int) -> str:
    """Markdown: the speeds of bare decoding; the last contender is the one to compare with."""
    peer = contenders[-1]
    lines = [
        f"| contender | loading, s | first pass, s | reviews/s, later passes | ratio to {peer.name} | other outputs |",
        "| --- | ---: | ---: | ---: | ---: | ---: |",
    ]
    for one in contenders:
        ratios = [theirs / mine for mine, theirs in zip(one.passes[1:], peer.passes[1:], strict=True)]
        speeds = spread([reviews / seconds for seconds in one.passes[1:]])
        other = sum(mine != theirs for mine, theirs in zip(one.outputs, peer.outputs, strict=True))
        cells = [f"{one.loading:.1f}", f"{one.passes[0]:.1f}", speeds, spread(ratios, "{:.2f}"), str(other)]
        lines.append(f"| {one.name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    """Runs the comparison and prints Markdown."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, required=True, help="checkpoint or run of a T5")
    parser.add_argument("--reviews", type=Path, required=True, help="file that fsa predict reads")
    parser.add_argument("--limit", type=int, default=400, help="number of reviews")
    parser.add_argument("--vocabulary", type=Path)
    parser.add_argument("--max_output_length", type=int, default=400)
    parser.add_argument("--batch_size", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    fsa, vocabulary = [sys.executable, "-c", "from fsa_jax.cli.main import run; run()"], []
    if options.vocabulary:
        vocabulary = ["--vocabulary", str(options.vocabulary)]
    where = machine()
    with tempfile.TemporaryDirectory() as work:
        rows = list(islice(read_rows(options.reviews), options.limit))
        tokens = load_student(options.model, vocabulary=options.vocabulary).tokens
        inputs = sorted((tokens.encode_input(row.text, 512)[0] for row in rows if row.text.strip()), key=len)
        Path(work, "inputs.json").write_text(json.dumps(inputs))
        reviews = Path(work, "reviews.jsonl")
        reviews.write_text("".join(json.dumps({"id": row.id, "text": row.text}) + "\n" for row in rows))
        models = {kind: f"{work}/{kind}" for kind in ("float32", "int8", "hf")}
        few = ["--check-count", "40", *vocabulary]
        timed([*fsa, "export-hf", str(options.model), models["hf"], *few])
        for kind in ("float32", "int8"):
            timed([*fsa, "export-ct2", str(options.model), models[kind], "--quantization", kind, *few])
        length, size = str(options.max_output_length), str(options.batch_size)
        settings = [f"{work}/inputs.json", "--length", length, "--batch_size", size, *vocabulary]
        contenders = [
            Contender("ours, JAX", ["ours", str(options.model), *settings]),
            Contender("CTranslate2, float32", ["ctranslate2", models["float32"], *settings]),
            Contender("CTranslate2, int8", ["ctranslate2", models["int8"], *settings]),
            Contender("transformers", ["transformers", models["hf"], *settings]),
        ]
        for turn in range(options.rounds + 1):
            first = turn % len(contenders)
            for one in (*contenders[first:], *contenders[:first]):
                one.decode()
        for one in contenders:
            one.close()
        lengths = [len(output) for output in contenders[-1].outputs]
        whole: dict[str, list[float]] = {"JAX": [], "CTranslate2, int8": []}
        for turn in range(options.rounds):
            for name, model in zip(whole, ([str(options.model), *vocabulary], [models["int8"]]), strict=True):
                command = [*fsa, "predict", model[0], str(reviews), f"{work}/{name}{turn}.jsonl", *model[1:]]
                command += ["--task", "analysis", "--max-output-length", length, "--batch-size", size]
                whole[name].append(timed(command))
    print(f"{where}; {len(inputs)} reviews of {statistics.mean(map(len, inputs)):.0f} tokens, outputs of", end=" ")
    print(f"{statistics.mean(lengths):.0f}, {lengths.count(options.max_output_length)} without an end\n")
    print(table(contenders, len(inputs)))
    for name, seconds in whole.items():
        print(f"\n`fsa predict`, {name}, from start to end: {spread(seconds)} s", end="")
    print()


def machine() -> str:
    """Processor, cores, load and versions."""
    names = ("jax", "ctranslate2", "torch", "transformers")
    versions = ", ".join(f"{name} {metadata.version(name)}" for name in names)
    return f"{processor()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}, {versions}"


if __name__ == "__main__":
    main()
