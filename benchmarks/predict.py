"""Compares ``fsa predict`` with CTranslate2 and transformers' ``generate`` on the same distilled T5 and sentences.

    python benchmarks/predict.py --checkpoint demo/finetuned/distilled/lr0.01-seed42 \\
      --vocabulary demo/vocabulary/spiece.model --input demo/data/fsa/atsa/rest14/*test.json --copies 5

Whole processes, including imports and loading the model, run alternately on the same machine. The table shows the
medians, their ratio, and F1 of both. transformers gets inputs sorted by length in tokens, and the best of several batch
sizes, dtypes and numbers of threads that are tried before; ``fsa predict`` uses its defaults. Needs the environment of
``make parity``.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

from _machine import processor

from fsa_jax.data.benchmark_files import load
from fsa_jax.evaluation.released_rule import tuple_f1
from fsa_jax.text.pairs import ACSA, ATSA

_TRANSFORMERS = """
import json, sys
import torch
from transformers import AutoModelForSeq2SeqLM, AutoTokenizer
model_dir, source, output, dtype = sys.argv[1:5]
batch_size, threads, length = map(int, sys.argv[5:8])
torch.set_num_threads(threads)
rows = [json.loads(line) for line in open(source)]
tokenizer = AutoTokenizer.from_pretrained(model_dir, trust_remote_code=False)
model = AutoModelForSeq2SeqLM.from_pretrained(
    model_dir, dtype=getattr(torch, dtype), trust_remote_code=False
).eval()
inputs = tokenizer([row["text"].replace("\\n", "[NL]") for row in rows])["input_ids"]
# Short inputs are decoded together to reduce padding, as in fsa predict.
order = sorted(range(len(rows)), key=lambda i: len(inputs[i]))
texts = [None] * len(rows)
with torch.inference_mode():
    for first in range(0, len(order), batch_size):
        chosen = order[first : first + batch_size]
        batch = tokenizer.pad({"input_ids": [inputs[i] for i in chosen]}, return_tensors="pt")
        ids = model.generate(**batch, max_new_tokens=length, do_sample=False, num_beams=1)
        for i, text in zip(chosen, tokenizer.batch_decode(ids, skip_special_tokens=True)):
            texts[i] = text
with open(output, "w") as stream:
    for row, text in zip(rows, texts):
        stream.write(json.dumps({"id": row["id"], "generated": text}) + "\\n")
"""


class Setting(NamedTuple):
    """Settings of transformers."""

    dtype: str
    batch_size: int
    threads: int


class Seconds(NamedTuple):
    """Times of one process."""

    wall: float
    processor: float


def _timed(command: list[str]) -> Seconds:
    begin, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
    run = subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    if run.returncode:
        sys.exit(run.stderr)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    processor = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return Seconds(time.perf_counter() - begin, processor)


def main() -> None:
    """Runs the comparison and prints a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoint", type=Path, required=True)
    parser.add_argument("--input", type=Path, required=True, nargs="+", help="labelled files in the released format")
    parser.add_argument("--task", choices=("atsa", "acsa"), default="atsa")
    parser.add_argument("--vocabulary", type=Path)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--peer_batch_sizes", type=int, nargs="+", default=[32, 128])
    parser.add_argument("--peer_threads", type=int, nargs="+", default=[1, os.cpu_count() or 1])
    parser.add_argument("--peer_dtypes", nargs="+", default=["float32", "bfloat16"])
    parser.add_argument("--max_output_length", type=int, default=100)
    parser.add_argument("--copies", type=int, default=1, help="number of copies of the sentences")
    options = parser.parse_args()
    sentences = [sentence for file in options.input for sentence in load(file)] * options.copies
    codec = {"atsa": ATSA, "acsa": ACSA}[options.task]
    gold = [codec.decode(codec.encode(sentence), sentence.text) for sentence in sentences]
    fsa, vocabulary = str(Path(sys.executable).parent / "fsa"), []
    if options.vocabulary:
        vocabulary = ["--vocabulary", str(options.vocabulary)]
    with tempfile.TemporaryDirectory() as work:
        source = Path(work) / "in.jsonl"
        source.write_text("".join(json.dumps({"id": str(i), "text": s.text}) + "\n" for i, s in enumerate(sentences)))
        model_ct2, model_hf = f"{work}/ct2", f"{work}/hf"
        _timed([fsa, "export-ct2", str(options.checkpoint), model_ct2, "--quantization", "int8", *vocabulary])
        _timed([fsa, "export-hf", str(options.checkpoint), model_hf, *vocabulary])
        length = str(options.max_output_length)

        def ours(output: str) -> Seconds:
            command = [fsa, "predict", model_ct2, str(source), output, "--task", options.task]
            return _timed([*command, "--max_output_length", length])

        def theirs(output: str, setting: Setting) -> Seconds:
            words = [setting.dtype, str(setting.batch_size), str(setting.threads), length]
            return _timed([sys.executable, "-c", _TRANSFORMERS, model_hf, str(source), output, *words])

        tried = {
            setting: theirs(f"{work}/tried.jsonl", setting)
            for setting in (
                Setting(*values)
                for values in itertools.product(options.peer_dtypes, options.peer_batch_sizes, options.peer_threads)
            )
        }
        best = min(tried, key=lambda setting: tried[setting].wall)
        times: dict[str, list[Seconds]] = {"ct2 int8": [], "transformers": []}
        for repeat in range(options.repeats):
            times["ct2 int8"].append(ours(f"{work}/ours{repeat}.jsonl"))
            times["transformers"].append(theirs(f"{work}/theirs{repeat}.jsonl", best))
        outputs = {"ct2 int8": f"{work}/ours0.jsonl", "transformers": f"{work}/theirs0.jsonl"}
        scores = {}
        for name, output in outputs.items():
            generated = [json.loads(line)["generated"] for line in Path(output).read_text().splitlines()]
            found = [codec.decode(text, s.text) for text, s in zip(generated, sentences, strict=True)]
            scores[name] = 100 * tuple_f1(gold, found).f1
    print(f"{len(sentences)} sentences, {os.cpu_count()} cores ({processor()}), load {os.getloadavg()[0]:.1f}")
    seconds = "; ".join(
        f"{dtype}, batches of {size}, {threads} threads: {value.wall:.1f}"
        for (dtype, size, threads), value in tried.items()
    )
    print(f"transformers, seconds on the clock: {seconds}\n")
    print(f"taken: {best.dtype}, batches of {best.batch_size}, {best.threads} threads\n")
    print("| | seconds, median (all) | processor seconds, median | sentences/s | F1 |\n| --- | --- | --- | --- | --- |")
    medians = {name: Seconds(*map(statistics.median, zip(*values, strict=True))) for name, values in times.items()}
    for name, median in medians.items():
        runs = " ".join(f"{value.wall:.1f}" for value in times[name])
        speed = len(sentences) / median.wall
        print(f"| {name} | {median.wall:.2f} ({runs}) | {median.processor:.2f} | {speed:.1f} | {scores[name]:.2f} |")
    ours_, theirs_ = medians["ct2 int8"], medians["transformers"]
    print(
        f"\nratio {theirs_.wall / ours_.wall:.2f} on the clock, {theirs_.processor / ours_.processor:.2f} of processor"
    )
    print(f"F1 difference {scores['ct2 int8'] - scores['transformers']:+.2f}")


if __name__ == "__main__":
    main()
