"""Decodes the same inputs again and again, each time that a line comes from standard input; see decoding.py.

It prints ``{}`` when the model is loaded, then the seconds of each pass and the outputs: token ids, without what
follows the end.
"""

# pyright: reportMissingImports=false

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

END = 1
"""End token of T5."""
Rows = list[list[int]]


def ours(model: Path, length: int, batch_size: int, vocabulary: Path | None) -> Callable[[Rows], Rows]:
    """JAX, as in ``fsa predict``."""
    from fsa_jax.serving.jax_decoding import Decoding
    from fsa_jax.serving.student import load_student

    generate = load_student(model, vocabulary=vocabulary).generator(Decoding(length))
    return lambda rows: [output.ids for output in generate(rows, batch_size=batch_size)]


def ctranslate2(model: Path, length: int, batch_size: int, vocabulary: Path | None) -> Callable[[Rows], Rows]:
    """CTranslate2, as in ``fsa predict``: a thread for each core, with a batch for each."""
    from fsa_jax.serving.ct2 import Ct2Generator, load_ct2_student

    generate = Ct2Generator(load_ct2_student(model), max_length=length)
    return lambda rows: [output.ids for output in generate(rows, batch_size=batch_size)]


def transformers(model: Path, length: int, batch_size: int, vocabulary: Path | None) -> Callable[[Rows], Rows]:
    """``generate`` of transformers, greedy, on batches padded to the longest input."""
    import torch
    from transformers import T5ForConditionalGeneration

    network: Any = T5ForConditionalGeneration.from_pretrained(
        model, dtype=torch.float32, trust_remote_code=False
    ).eval()

    def decode(rows: Rows) -> Rows:
        found: Rows = []
        for first in range(0, len(rows), batch_size):
            batch = rows[first : first + batch_size]
            longest = max(map(len, batch))
            ids = torch.tensor([row + [0] * (longest - len(row)) for row in batch])
            mask = (ids != 0).long()
            outputs = network.generate(
                input_ids=ids, attention_mask=mask, max_new_tokens=length, do_sample=False, num_beams=1
            )
            found += [without_rest(row) for row in outputs[:, 1:].tolist()]
        return found

    return torch.inference_mode()(decode)


def without_rest(row: list[int]) -> list[int]:
    """An output without what follows its end."""
    return row[: row.index(END) + 1] if END in row else row


ENGINES = {"ours": ours, "ctranslate2": ctranslate2, "transformers": transformers}


def main() -> None:
    """Loads the model and decodes on demand."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("engine", choices=sorted(ENGINES))
    parser.add_argument("model", type=Path)
    parser.add_argument("inputs", type=Path, help="JSON: lists of token ids, short ones first")
    parser.add_argument("--length", type=int, required=True)
    parser.add_argument("--batch_size", type=int, required=True)
    parser.add_argument("--vocabulary", type=Path)
    options = parser.parse_args()
    rows = json.loads(options.inputs.read_text())
    decode = ENGINES[options.engine](options.model, options.length, options.batch_size, options.vocabulary)
    print("{}", flush=True)
    for _ in sys.stdin:
        began = time.perf_counter()
        outputs = decode(rows)
        print(json.dumps({"seconds": time.perf_counter() - began, "outputs": outputs}), flush=True)


if __name__ == "__main__":
    main()
