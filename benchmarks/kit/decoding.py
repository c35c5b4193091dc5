"""Greedy decoding of a fixed number of tokens: the engine's, and transformers' ``generate``; same weights, same inputs.

No token ends an output, so both do the same number of steps.
"""

# pyright: reportMissingImports=false

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.kit.contests import backend
from benchmarks.kit.rows import Slice
from benchmarks.kit.weights import folder_of

TURNS = 3


def reviews(run: Slice, folder: Path) -> np.ndarray:
    """Inputs as tokens (examples, longest), filled up with 0."""
    arrays, count = np.load(folder / "examples.npz"), run.size.decoded[0]
    rows = np.split(arrays["inputs"], np.cumsum(arrays["inputs_lengths"])[:-1])[:count]
    width = max(map(len, rows))
    return np.stack([np.pad(row, (0, width - len(row))) for row in rows]).astype(np.int32)


def timed(run: Slice, decode: Callable[[], np.ndarray]) -> dict[str, Any]:
    """Decodes a few times; the first call, which compiles, is not counted."""
    examples, length = run.size.decoded
    began = time.perf_counter()
    found = decode()
    first, times = time.perf_counter() - began, []
    for _ in range(TURNS):
        began = time.perf_counter()
        decode()
        times.append(time.perf_counter() - began)
    seconds = statistics.median(times)
    return {
        "seconds": seconds,
        "range": [min(times), max(times)],
        "first_seconds": first,
        "examples_per_second": examples / seconds,
        "tokens_per_second": examples * length / seconds,
        "tokens": found[:2, :8].tolist(),
    }


def ours(run: Slice, folder: Path, ids: np.ndarray, dtype: str) -> dict[str, Any]:
    """The engine's greedy decoding."""
    import jax
    import jax.numpy as jnp
    from flax import traverse_util

    from benchmarks.steps.jax_step import model_of
    from fsa_base.networks.t5 import network
    from t5x.decoding import decode_from_encoder, temperature_sample

    settings = json.loads((folder / "config.json").read_text()) | {"dtype": dtype}
    module = model_of(settings, network).module
    parameters = traverse_util.unflatten_dict(dict(np.load(folder / "weights.npz")), sep="/")
    parameters = jax.device_put(parameters)
    targets = jnp.zeros((len(ids), run.size.decoded[1]), jnp.int32)
    batch = {"encoder_input_tokens": jnp.asarray(ids), "decoder_input_tokens": targets}

    @jax.jit
    def decode(parameters: Any, batch: Any) -> Any:
        options = {"eos_id": -1}
        return decode_from_encoder(module, parameters, batch, temperature_sample, options, 1, False)[0]

    return timed(run, lambda: np.asarray(decode(parameters, batch))[:, 0])


def transformers(run: Slice, folder: Path, ids: np.ndarray, dtype: str) -> dict[str, Any]:
    """transformers' ``generate``, with the weights in ``dtype``."""
    import torch
    from transformers import T5ForConditionalGeneration

    model: Any = T5ForConditionalGeneration.from_pretrained(
        folder / "hf", trust_remote_code=False, dtype=getattr(torch, dtype)
    )
    model = model.to(backend()).eval()
    inputs = torch.tensor(ids, device=backend()).long()
    length = run.size.decoded[1]

    def decode() -> np.ndarray:
        with torch.inference_mode():
            made = model.generate(
                inputs,
                attention_mask=(inputs > 0).long(),
                min_new_tokens=length,
                max_new_tokens=length,
                do_sample=False,
                num_beams=1,
            )
        return made[:, 1:].cpu().numpy()

    return timed(run, decode)


def main() -> None:
    """Writes the rows of the slice."""
    run = Slice.from_command_line(__doc__)
    folder = folder_of(run, "t5", run.size.model, run.size.packings[0].data)
    ids = reviews(run, folder)
    for name, decode in (("ours (engine)", ours), ("transformers", transformers)):
        run.measure(f"{name}, {len(ids)} rows", partial(decode, run, folder, ids, run.size.dtype))


if __name__ == "__main__":
    main()
