"""Measures the peak memory of the process ``fsa import-hf`` for models of real size with random weights in shards.

    python benchmarks/import_memory.py --directory /a/disk/with/25/GB

The allowed memory is 1.3 times the larger of one shard file and the model in the output dtype. The script measures
VmHWM of the process, which includes the memory of Python and JAX.
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np

from fsa_jax.weights.families import family_of
from fsa_jax.weights.hf_files import Lazy, write_directory

MODELS: dict[str, tuple[dict[str, Any], Any]] = {
    "T5 v1.1 large, float32": (
        {
            "model_type": "t5",
            "vocab_size": 32128,
            "d_model": 1024,
            "d_kv": 64,
            "d_ff": 2816,
            "num_layers": 24,
            "num_heads": 16,
            "feed_forward_proj": "gated-gelu",
            "tie_word_embeddings": False,
        },
        np.float32,
    ),
    "Llama-3.2-1B, bfloat16": (
        {
            "model_type": "llama",
            "vocab_size": 128256,
            "hidden_size": 2048,
            "intermediate_size": 8192,
            "num_hidden_layers": 16,
            "num_attention_heads": 32,
            "num_key_value_heads": 8,
            "head_dim": 64,
            "tie_word_embeddings": True,
        },
        ml_dtypes.bfloat16,
    ),
}
_IMPORT = """
import re, sys
from fsa_jax.cli.main import main
status = main(["import-hf", *sys.argv[1:]])
print(re.search(r"VmHWM:\\s+(\\d+) kB", open("/proc/self/status").read())[1])
sys.exit(status)
"""


def write_model(directory: Path, config: dict[str, Any], dtype: Any, shard_bytes: int) -> list[Path]:
    """Writes a model directory with random weights, one tensor at a time; returns its weight files."""
    family = family_of(config)
    generator = np.random.default_rng(0)
    tensors = {}
    for leaf in family.leaves(family.config(config, None)):
        shape = leaf.shape[::-1] if leaf.transpose else leaf.shape
        tensors[leaf.tensor] = Lazy(
            shape, np.dtype(dtype), lambda s=shape: generator.standard_normal(s, np.float32).astype(dtype)
        )
    directory.mkdir()
    (directory / "config.json").write_text(json.dumps(config))
    if family.name != "T5":
        vocab = {f"token{i}": i for i in range(config["vocab_size"])}
        (directory / "tokenizer.json").write_text(json.dumps({"model": {"type": "BPE", "vocab": vocab}}))
    return write_directory(directory, tensors, shard_bytes=shard_bytes)


def main() -> None:
    """Imports each model in both dtypes and prints a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--directory", type=Path, help="folder for the models; by default a temporary directory")
    parser.add_argument("--shard_gb", type=float, default=1.0)
    options = parser.parse_args()
    print(
        "| source | shards | written as | largest of shard and model | peak | ratio | seconds |\n" + "| --- " * 7 + "|"
    )
    for name, (config, source_dtype) in MODELS.items():
        with tempfile.TemporaryDirectory(dir=options.directory) as work:
            source, out = Path(work) / "source", Path(work) / "out"
            files = write_model(source, config, source_dtype, int(options.shard_gb * 1024**3))
            values = sum(file.stat().st_size for file in files) // np.dtype(source_dtype).itemsize
            for dtype, itemsize in (("float32", 4), ("bfloat16", 2)):
                begin = time.perf_counter()
                command = [sys.executable, "-c", _IMPORT, str(source), str(out), "--dtype", dtype]
                run = subprocess.run(command, check=True, capture_output=True, text=True)
                seconds = time.perf_counter() - begin
                peak = int(re.findall(r"\d+", run.stdout.splitlines()[-1])[0]) * 1024
                largest = max(values * itemsize, max(file.stat().st_size for file in files))
                cells = f"{largest / 1e9:.2f} GB | {peak / 1e9:.2f} GB | {peak / largest:.2f} | {seconds:.0f}"
                print(f"| {name} | {len(files)} | {dtype} | {cells} |", flush=True)
                shutil.rmtree(out)


if __name__ == "__main__":
    main()
