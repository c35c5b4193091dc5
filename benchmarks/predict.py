"""``fsa predict`` with CTranslate2 against transformers' ``generate``, on the same distilled T5 and the same sentences.

    python benchmarks/predict.py --checkpoint demo/finetuned/distilled/lr0.01-seed42 \\
      --vocabulary demo/vocabulary/spiece.model --input demo/data/fsa/atsa/rest14/*test.json --copies 5

Both are whole processes, imports and model loading included, run in turns on the same machine; the table shows the
medians, their ratio, and F1 of both. transformers gets the best of the batch sizes and dtypes that are tried before,
and inputs sorted by length in tokens; ``fsa predict`` runs as it comes. Needs the environment of ``make parity``.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from fsa_jax.data.fsa import load
from fsa_jax.evaluation.metrics import tuple_f1
from fsa_jax.text import acsa, atsa

_TRANSFORMERS = """
import json, sys
import torch
from transformers import AutoModelForSeq2SeqLM, AutoTokenizer
model_dir, source, output, dtype = sys.argv[1:5]
batch_size, length = int(sys.argv[5]), int(sys.argv[6])
rows = [json.loads(line) for line in open(source)]
tokenizer = AutoTokenizer.from_pretrained(model_dir)
model = AutoModelForSeq2SeqLM.from_pretrained(model_dir, dtype=getattr(torch, dtype)).eval()
inputs = tokenizer([row["text"].replace("\\n", "[NL]") for row in rows])["input_ids"]
# The same courtesy as ours: short inputs together, so that little is padded.
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


def _timed(command: list[str]) -> float:
    begin = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - begin


def main() -> None:
    """Runs the comparison and prints a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoint", type=Path, required=True)
    parser.add_argument("--input", type=Path, required=True, nargs="+", help="labelled files in the released form")
    parser.add_argument("--task", choices=("atsa", "acsa"), default="atsa")
    parser.add_argument("--vocabulary", type=Path)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--peer_batch_sizes", type=int, nargs="+", default=[32, 64, 128])
    parser.add_argument("--peer_dtypes", nargs="+", default=["float32", "bfloat16"])
    parser.add_argument("--max_output_length", type=int, default=100)
    parser.add_argument("--copies", type=int, default=1, help="predict the sentences so many times over")
    options = parser.parse_args()
    sentences = [sentence for file in options.input for sentence in load(file)] * options.copies
    codec = {"atsa": atsa, "acsa": acsa}[options.task]
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

        def ours(output: str) -> float:
            command = [fsa, "predict", model_ct2, str(source), output, "--task", options.task]
            return _timed([*command, "--max_output_length", length])

        def theirs(output: str, dtype: str, batch_size: int) -> float:
            command = [sys.executable, "-c", _TRANSFORMERS, model_hf, str(source), output]
            return _timed([*command, dtype, str(batch_size), length])

        tried = {
            (dtype, size): theirs(f"{work}/tried.jsonl", dtype, size)
            for dtype in options.peer_dtypes
            for size in options.peer_batch_sizes
        }
        best = min(tried, key=lambda setting: tried[setting])
        times: dict[str, list[float]] = {"ct2 int8": [], "transformers": []}
        for repeat in range(options.repeats):
            times["ct2 int8"].append(ours(f"{work}/ours{repeat}.jsonl"))
            times["transformers"].append(theirs(f"{work}/theirs{repeat}.jsonl", *best))
        outputs = {"ct2 int8": f"{work}/ours0.jsonl", "transformers": f"{work}/theirs0.jsonl"}
        scores = {}
        for name, output in outputs.items():
            generated = [json.loads(line)["generated"] for line in Path(output).read_text().splitlines()]
            found = [codec.decode(text, s.text) for text, s in zip(generated, sentences, strict=True)]
            scores[name] = 100 * tuple_f1(gold, found).f1
    medians = {name: statistics.median(values) for name, values in times.items()}
    machine = platform.processor() or platform.machine()
    print(f"{len(sentences)} sentences, {os.cpu_count()} cores ({machine})")
    seconds = ", ".join(f"{dtype} in {size}s {value:.1f}" for (dtype, size), value in tried.items())
    print(f"transformers, seconds: {seconds}; taken: {best[0]} in batches of {best[1]}\n")
    print("| | seconds (median) | all | sentences/s | F1 |\n| --- | --- | --- | --- | --- |")
    for name, values in times.items():
        runs = " ".join(f"{value:.1f}" for value in values)
        print(f"| {name} | {medians[name]:.2f} | {runs} | {len(sentences) / medians[name]:.1f} | {scores[name]:.2f} |")
    ratio = medians["transformers"] / medians["ct2 int8"]
    print(f"\nratio {ratio:.2f}, F1 difference {scores['ct2 int8'] - scores['transformers']:+.2f}")


if __name__ == "__main__":
    main()
