"""A contender of training_step.py: a model of transformers in PyTorch, padded to the longest example of a batch.

    python benchmarks/steps/torch_step.py FOLDER EXAMPLES [--tuned SHAPES] [--accumulate N] [--device cuda]
                                          [--dtype bfloat16]

EXAMPLES are those of one backward pass. With ``--accumulate N`` the optimizer steps after N of them, as in the released
recipe of 20 x 5. With ``--tuned SHAPES`` the model is compiled, examples of similar length are in a batch, cut into
that many shapes, and the optimizer is fused. A step then goes through all shapes, so that turns are alike.
"""

# pyright: reportMissingImports=false

from __future__ import annotations

import argparse
import itertools
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
import transformers
import turns

IGNORED = -100
"""Label of a position that has no loss."""
MULTIPLE = 8
"""Lengths of the compiled shapes are multiples of this."""

Example = dict[str, np.ndarray]
"""Columns of a model's batch, each with its own length."""


class Batch(NamedTuple):
    """int64 (examples, length) by column, on the device, and the number of real target tokens."""

    columns: dict[str, torch.Tensor]
    tokens: int


def read(folder: Path, encoder_decoder: bool) -> tuple[list[Example], list[Example]]:
    """All examples as the model's columns, and those whose loss is compared."""
    arrays = np.load(folder / "examples.npz")
    inputs, targets = (
        np.split(arrays[name].astype(np.int64), np.cumsum(arrays[f"{name}_lengths"])[:-1])
        for name in ("inputs", "targets")
    )

    def columns(prompt: np.ndarray, answer: np.ndarray) -> Example:
        if encoder_decoder:
            return {"input_ids": prompt, "labels": answer}
        whole = np.concatenate([prompt, answer])
        return {"input_ids": whole, "labels": np.where(np.arange(len(whole)) < len(prompt), IGNORED, whole)}

    examples = [columns(*pair) for pair in zip(inputs, targets, strict=True)]
    checked = np.load(folder / "check_best_fit.npz")["decoder_segment_ids"]
    return examples, examples[: checked.max(axis=1).sum()]


def padded(examples: Sequence[Example], device: str, widths: dict[str, int] | None = None) -> Batch:
    """The examples padded to the longest, or to ``widths``, with the mask of the inputs."""
    batch: dict[str, torch.Tensor] = {}
    for name, filling in (("input_ids", 0), ("labels", IGNORED)):
        rows = [example[name] for example in examples]
        width = max(map(len, rows)) if widths is None else widths[name]
        filled = [np.pad(row, (0, width - len(row)), constant_values=filling) for row in rows]
        batch[name] = torch.tensor(np.stack(filled), device=device)
    lengths = torch.tensor([len(example["input_ids"]) for example in examples], device=device)
    positions = torch.arange(batch["input_ids"].shape[1], device=device)
    tokens = sum(int((example["labels"] != IGNORED).sum()) for example in examples)
    return Batch(batch | {"attention_mask": (positions < lengths[:, None]).long()}, tokens)


def by_length(examples: Sequence[Example], size: int, shapes: int, device: str) -> list[list[Batch]]:
    """Cycles of ``shapes`` batches, each of examples of similar length that are padded to the longest of all those."""
    order = np.argsort([sum(map(len, example.values())) for example in examples])
    draw, groups = np.random.default_rng(0), []
    for part in np.array_split(order, shapes):
        chosen = [examples[at] for at in draw.permutation(part)]
        longest = {name: max(len(example[name]) for example in chosen) for name in chosen[0]}
        widths = {name: -(-length // MULTIPLE) * MULTIPLE for name, length in longest.items()}
        firsts = range(0, len(chosen) - size + 1, size)
        groups.append([padded(chosen[first : first + size], device, widths) for first in firsts])
    return [list(cycle) for cycle in zip(*groups, strict=False)]


def main() -> None:
    """Trains whenever it is asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("examples", type=int)
    parser.add_argument("--tuned", type=int, metavar="SHAPES", default=0)
    parser.add_argument("--compiler", default="inductor", help="torch.compile's backend; eager generates no code")
    parser.add_argument("--accumulate", type=int, default=1)
    parser.add_argument("--attention", default="sdpa", help="transformers' attn_implementation")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", default="float32", choices=("float32", "bfloat16"), help="bfloat16 by autocast")
    options = parser.parse_args()
    folder, size, device = options.folder, options.examples, options.device
    encoder_decoder = json.loads((folder / "hf" / "config.json").read_text())["model_type"] == "t5"
    automatic: Any = transformers.AutoModelForSeq2SeqLM if encoder_decoder else transformers.AutoModelForCausalLM
    model = automatic.from_pretrained(
        folder / "hf", trust_remote_code=False, attn_implementation=options.attention, dtype=torch.float32
    )
    model = model.to(device).eval()
    # Training does not decode, so it needs no cache.
    model.config.use_cache = False
    examples, checked = read(folder, encoder_decoder)
    if options.tuned:
        # TF32 products of what autocast leaves in float32; no effect on a CPU.
        torch.set_float32_matmul_precision("high" if options.dtype == "bfloat16" else "highest")
        torch._dynamo.config.recompile_limit = 2 * options.tuned
        # On a CPU a shape takes many minutes, and its products are the same library calls in all shapes.
        forward = torch.compile(model, dynamic=device == "cpu", backend=options.compiler)
        batches = by_length(examples, size, options.tuned, device)
    else:
        forward = model
        firsts = range(0, len(examples) - size + 1, size)
        batches = [[padded(examples[first : first + size], device)] for first in firsts]
    cast = torch.autocast(device, torch.bfloat16, enabled=options.dtype == "bfloat16")
    with torch.no_grad(), cast:
        loss = float(forward(**padded(checked, device).columns).loss)

    steps = itertools.cycle(batches)
    model.train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, fused=bool(options.tuned) or None)

    def step() -> tuple[int, int]:
        count = tokens = 0
        # Every batch of a cycle is an optimizer step of its own, unless gradients are accumulated.
        given = [batch for _ in range(options.accumulate) for batch in next(steps)]
        for number, batch in enumerate(given, 1):
            with cast:
                share = forward(**batch.columns).loss / options.accumulate
            share.backward()
            if number % options.accumulate == 0:
                optimizer.step()
                optimizer.zero_grad()
            count, tokens = count + size, tokens + batch.tokens
        return count, tokens

    if device == "cuda":
        turns.serve(loss, step, torch.cuda.synchronize, torch.cuda.max_memory_allocated)
    else:
        turns.serve(loss, step, lambda: None, lambda: None)


if __name__ == "__main__":
    main()
