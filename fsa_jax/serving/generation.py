"""Decoding with a student in JAX: greedy or beam search, in batches of padded inputs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from fsa_jax.serving.search import Step, beam_search, greedy

IMPOSSIBLE = -1e9
"""Logit of an id that is not in the vocabulary."""
_SHORTEST = 32


@dataclass(frozen=True)
class Decoding:
    """Settings of decoding.

    Args:
      max_length: longest output in tokens, including the end token.
      beams: number of beams; 1 for greedy decoding.
      length_penalty: exponent of beam search: an output's log-probability is divided by (tokens ^ length_penalty).
    """

    max_length: int
    beams: int = 1
    length_penalty: float = 1.0


def padded_length(longest: int) -> int:
    """The padded length of inputs: a power of two, so that few lengths are compiled."""
    length = _SHORTEST
    while length < longest:
        length *= 2
    return length


class Generator:
    """Decodes batches with one network and one set of parameters.

    Args:
      module: ``Transformer`` or ``LlamaTransformer``.
      parameters: parameters of the module.
      decoder_only: whether the module is decoder-only (``LlamaTransformer``).
      end_ids: ids that end an output; outputs always show the first of them.
      rows: number of real ids; this and higher ids are padding of the embedding and are never chosen.
      decoding: settings of decoding.
    """

    def __init__(
        self,
        module: Any,
        parameters: Any,
        *,
        decoder_only: bool,
        end_ids: Sequence[int],
        rows: int,
        decoding: Decoding,
    ) -> None:
        self._parameters = jax.device_put(parameters)
        self._decoder_only = decoder_only
        self._end_ids = tuple(end_ids)
        decode = _continue_prompts if decoder_only else _decode_encoded
        mask = partial(_restrict, end_ids=self._end_ids, rows=rows)
        self._decode: Callable = jax.jit(partial(decode, module, mask, self._end_ids[0], decoding))

    def __call__(
        self, batch: Sequence[Sequence[int]], *, batch_size: int | None = None
    ) -> list[tuple[list[int], float]]:
        """The outputs of a batch, in order.

        Args:
          batch: token ids of the inputs.
          batch_size: number of rows to compute; missing rows are copies of the first. By default the number of inputs.

        Returns:
          For each input, the ids of the output (including the end token, if reached) and its score: the log-probability
          of the output, divided by the length penalty if there are several beams.
        """
        rows = [*batch, *([batch[0]] * max(0, (batch_size or 0) - len(batch)))]
        length = padded_length(max(map(len, rows)))
        ids, mask = np.zeros((len(rows), length), np.int32), np.zeros((len(rows), length), np.int32)
        for i, row in enumerate(rows):
            where = slice(length - len(row), length) if self._decoder_only else slice(0, len(row))
            ids[i, where], mask[i, where] = row, 1
        outputs, scores = self._decode(self._parameters, ids, mask)
        outputs, scores = np.asarray(outputs)[: len(batch)], np.asarray(scores)[: len(batch)]
        return [(self._cut(row.tolist()), float(score)) for row, score in zip(outputs, scores, strict=True)]

    def _cut(self, row: list[int]) -> list[int]:
        end = self._end_ids[0]
        return row[: row.index(end) + 1] if end in row else row


def _restrict(logits: Float[Array, "rows vocab"], *, end_ids: tuple[int, ...], rows: int) -> Float[Array, "rows vocab"]:
    """Logits without padding ids, and with all end tokens merged into one, because the searches know only one end."""
    ids = jnp.arange(logits.shape[-1])
    logits = jnp.where((ids < rows)[None, :], logits, IMPOSSIBLE)
    if len(end_ids) > 1:
        ends = jnp.max(logits[:, jnp.asarray(end_ids)], axis=-1, keepdims=True)
        others = jnp.isin(ids, jnp.asarray(end_ids[1:]))
        logits = jnp.where((ids == end_ids[0])[None, :], ends, jnp.where(others[None, :], IMPOSSIBLE, logits))
    return logits


def _search(
    decoding: Decoding, tokens: Int[Array, "batch 1"], cache: Any, step: Step, end_id: int, scanned: bool
) -> tuple[Int[Array, "batch outputs"], Float[Array, " batch"]]:
    if decoding.beams == 1:
        return greedy(tokens, cache, step, end_id, decoding.max_length)
    return beam_search(
        tokens,
        cache,
        step,
        end_id,
        decoding.max_length,
        beams=decoding.beams,
        length_penalty=decoding.length_penalty,
        cache_offset=int(scanned),
    )


def _decode_encoded(
    module: Any,
    restrict: Callable,
    end_id: int,
    decoding: Decoding,
    parameters: Any,
    inputs: Int[Array, "batch length"],
    mask: Int[Array, "batch length"],
) -> tuple[Int[Array, "batch outputs"], Float[Array, " batch"]]:
    del mask  # Padding is id 0.
    variables = {"params": parameters}
    targets = jnp.zeros((inputs.shape[0], decoding.max_length), jnp.int32)
    _, made = module.apply(
        variables, inputs, jnp.ones_like(targets), jnp.ones_like(targets), enable_dropout=False, decode=True,
        mutable=["cache"],
    )  # fmt: skip
    encoded = module.apply(variables, inputs, enable_dropout=False, method=module.encode)
    encoded, tokens = (jnp.repeat(x, decoding.beams, axis=0) for x in (encoded, inputs))

    def step(last: Array, cache: Any) -> tuple[Array, Any]:
        logits, changed = module.apply(
            {**variables, "cache": cache},
            encoded,
            tokens,
            last,
            last,
            enable_dropout=False,
            decode=True,
            max_decode_length=decoding.max_length,
            mutable=["cache"],
            method=module.decode,
        )
        return restrict(jnp.squeeze(logits, axis=1)), changed["cache"]

    return _search(decoding, targets[:, :1], made["cache"], step, end_id, module.scan_layers)


def _continue_prompts(
    module: Any,
    restrict: Callable,
    end_id: int,
    decoding: Decoding,
    parameters: Any,
    inputs: Int[Array, "batch length"],
    mask: Int[Array, "batch length"],
) -> tuple[Int[Array, "batch outputs"], Float[Array, " batch"]]:
    """Decodes with prompts padded on the left, so that all prompts end, and all answers start, in the same column."""
    batch, prompt = inputs.shape
    variables = {"params": parameters}
    whole = jnp.pad(inputs, ((0, 0), (0, decoding.max_length - 1)))
    _, made = module.apply(variables, whole, enable_dropout=False, decode=True, mutable=["cache"])
    # The first decoding step processes the last token of the prompt; its logits choose the first token of the answer.
    before = jnp.full((batch,), prompt - 1, jnp.int32)
    _, filled = module.apply(
        {**variables, "cache": made["cache"]},
        inputs,
        decoder_segment_ids=mask,
        enable_dropout=False,
        prefill=True,
        prefill_lengths=before,
        mutable=["cache"],
    )

    def step(last: Array, cache: Any) -> tuple[Array, Any]:
        logits, changed = module.apply(
            {**variables, "cache": cache}, last, enable_dropout=False, decode=True, mutable=["cache"]
        )
        return restrict(jnp.squeeze(logits, axis=1)), changed["cache"]

    return _search(decoding, inputs[:, -1:], filled["cache"], step, end_id, module.scan_layers)
