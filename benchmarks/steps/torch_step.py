"""A contender of training_step.py: transformers' T5 in PyTorch, padded to the longest example of a batch.

python benchmarks/steps/torch_step.py FOLDER EXAMPLES
"""

# pyright: reportMissingImports=false

from __future__ import annotations

import itertools
import sys
from pathlib import Path

import numpy as np
import torch
import turns
from transformers import T5ForConditionalGeneration


def padded(rows: list[np.ndarray], filling: int) -> torch.Tensor:
    """int64 (rows, longest), filled up."""
    width = max(map(len, rows))
    return torch.tensor(np.stack([np.pad(row, (0, width - len(row)), constant_values=filling) for row in rows])).long()


def main() -> None:
    """Trains whenever it is asked."""
    folder, size = Path(sys.argv[1]), int(sys.argv[2])
    model = T5ForConditionalGeneration.from_pretrained(folder / "hf", trust_remote_code=False).eval()
    # Training does not decode, so it needs no cache.
    model.config.use_cache = False
    arrays = np.load(folder / "examples.npz")
    inputs, targets = (
        np.split(arrays[name], np.cumsum(arrays[f"{name}_lengths"])[:-1]) for name in ("inputs", "targets")
    )

    def batch(first: int, size: int) -> dict[str, torch.Tensor]:
        ids = padded(inputs[first : first + size], 0)
        labels = padded(targets[first : first + size], -100)
        return {"input_ids": ids, "attention_mask": (ids > 0).long(), "labels": labels}

    checked = np.load(folder / "check_best_fit.npz")
    with torch.no_grad():
        loss = float(model(**batch(0, int(checked["decoder_segment_ids"].max(axis=1).sum()))).loss)

    batches = itertools.cycle([batch(first, size) for first in range(0, len(inputs) - size + 1, size)])
    model.train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4)

    def step() -> tuple[int, int]:
        given = next(batches)
        model(**given).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        return size, int((given["labels"] >= 0).sum())

    turns.serve(loss, step)


if __name__ == "__main__":
    main()
