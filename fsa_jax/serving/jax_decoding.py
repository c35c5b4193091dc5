"""Decoding with a student in JAX: greedy or beam search, in batches of padded inputs.

Choices and scores are those of transformers' ``generate``. The engine's beam search, which evaluation during training
uses, follows T5X: it lets a beam finish from anywhere among twice as many candidates as beams, and returns unfinished
beams only if none finished. transformers and CTranslate2 let it finish among the best candidates only, and end every
beam at the greatest length. Served outputs must be the same in all three, so serving follows transformers.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from fsa_jax.serving.prediction_record import Output

Step = Callable[[Int[Array, "rows 1"], Any], tuple[Float[Array, "rows vocab"], Any]]
"""A decoding step: takes the last tokens and the cache; returns the logits of the next tokens and the updated cache."""

Found = tuple[Int[Array, "batch length"], Float[Array, " batch"], Float[Array, "batch length"]]
"""Result of a search: ids, with zeros after the end; scores; and the log-probability of each id."""

_NEVER = -1e9


def greedy(tokens: Int[Array, "batch 1"], cache: Any, step: Step, end_id: int, length: int) -> Found:
    """Greedy decoding: chooses the most likely token at each step, up to ``end_id`` or ``length``.

    Returns:
      The ids, with zeros after the end, their sums of log-probabilities, and the log-probability of each id.
    """
    batch = tokens.shape[0]
    outputs, log_probs = jnp.zeros((batch, length), jnp.int32), jnp.zeros((batch, length), jnp.float32)
    first = (jnp.zeros((), jnp.int32), tokens, cache, outputs, log_probs, jnp.zeros((batch,), bool))

    def going_on(state: tuple) -> Bool[Array, ""]:
        return (state[0] < length) & ~jnp.all(state[-1])

    def advance(state: tuple) -> tuple:
        position, tokens, cache, outputs, log_probs, ended = state
        logits, cache = step(tokens, cache)
        chosen = jnp.argmax(logits, axis=-1).astype(jnp.int32)
        chosen_log_probs = jnp.take_along_axis(jax.nn.log_softmax(logits), chosen[:, None], axis=-1)
        chosen = jnp.where(ended, 0, chosen)
        outputs = jax.lax.dynamic_update_slice_in_dim(outputs, chosen[:, None], position, axis=1)
        chosen_log_probs = jnp.where(ended[:, None], 0.0, chosen_log_probs)
        log_probs = jax.lax.dynamic_update_slice_in_dim(log_probs, chosen_log_probs, position, axis=1)
        return position + 1, chosen[:, None], cache, outputs, log_probs, ended | (chosen == end_id)

    state = jax.lax.while_loop(going_on, advance, first)
    return state[3], jnp.sum(state[4], axis=1), state[4]


@flax.struct.dataclass
class _Beams:
    """State of the search after ``position`` tokens; beams are sorted by score, the best first."""

    position: Int[Array, ""]
    live: Int[Array, "batch beams length"]
    live_scores: Float[Array, "batch beams"]
    live_log_probs: Float[Array, "batch beams length"]
    done: Int[Array, "batch beams length"]
    done_scores: Float[Array, "batch beams"]
    done_log_probs: Float[Array, "batch beams length"]
    settled: Bool[Array, " batch"]
    tokens: Int[Array, "rows 1"]
    cache: Any


def beam_search(
    tokens: Int[Array, "batch 1"],
    cache: Any,
    step: Step,
    end_id: int,
    length: int,
    *,
    beams: int,
    length_penalty: float,
    cache_offset: int,
) -> Found:
    """Beam search: returns the best output that the search finds.

    An output is done when its next token is ``end_id`` and among the ``beams`` best candidates, or when it has
    ``length`` tokens. Its score is its log-probability divided by (tokens ^ ``length_penalty``). An example is settled
    when ``beams`` outputs are done and the best unfinished one, scored at its current length, is not better than the
    worst of them.

    Args:
      tokens: token before the outputs.
      cache: cache of the network, with one row per example.
      step: decoding step of the network.
      end_id: id that ends an output.
      length: longest output in tokens.
      beams: number of beams.
      length_penalty: exponent of the length penalty; 0 for none, larger values prefer longer outputs.
      cache_offset: axis of the examples in the cache; 1 if layers are stacked on axis 0.

    Returns:
      The ids, with zeros after the end, the scores, and the log-probability of each id.
    """
    batch = tokens.shape[0]
    empty = jnp.zeros((batch, beams, length), jnp.int32)
    no_log_probs = jnp.zeros((batch, beams, length), jnp.float32)
    # All beams are equal at first, so only one may have a score.
    first_scores = jnp.where(jnp.arange(beams) == 0, 0.0, _NEVER).astype(jnp.float32)
    first = _Beams(
        position=jnp.zeros((), jnp.int32),
        live=empty,
        live_scores=jnp.broadcast_to(first_scores[None, :], (batch, beams)),
        live_log_probs=no_log_probs,
        done=empty,
        done_scores=jnp.full((batch, beams), _NEVER, jnp.float32),
        done_log_probs=no_log_probs,
        settled=jnp.zeros((batch,), bool),
        tokens=jnp.repeat(tokens, beams, axis=0),
        cache=_map_rows(lambda leaf: jnp.repeat(leaf, beams, axis=cache_offset), cache, cache_offset),
    )

    def going_on(state: _Beams) -> Bool[Array, ""]:
        return (state.position < length) & ~jnp.all(state.settled)

    def advance(state: _Beams) -> _Beams:
        logits, cache = step(state.tokens, state.cache)
        vocab = logits.shape[-1]
        log_probs = jax.nn.log_softmax(logits).reshape(batch, beams, vocab)
        candidates = (state.live_scores[:, :, None] + log_probs).reshape(batch, beams * vocab)
        # Twice as many candidates as beams, so that enough remain even if the best candidate of every beam ends.
        scores, chosen = jax.lax.top_k(candidates, 2 * beams)
        parents, chosen_tokens = chosen // vocab, (chosen % vocab).astype(jnp.int32)
        chosen_log_probs = jnp.take_along_axis(log_probs.reshape(batch, beams * vocab), chosen, axis=1)
        sequences = _with_next(state.live, parents, chosen_tokens, state.position)
        histories = _with_next(state.live_log_probs, parents, chosen_log_probs, state.position)
        position = state.position + 1
        ends = (chosen_tokens == end_id) | (position == length)

        among_best = (jnp.arange(2 * beams) < beams)[None, :]
        counts = ends & among_best & ~state.settled[:, None]
        penalised = jnp.where(counts, scores / position.astype(jnp.float32) ** length_penalty, _NEVER)
        done_scores, best = jax.lax.top_k(jnp.concatenate([state.done_scores, penalised], axis=1), beams)
        done = _chosen(jnp.concatenate([state.done, sequences], axis=1), best)
        done_log_probs = _chosen(jnp.concatenate([state.done_log_probs, histories], axis=1), best)

        live_scores, kept = jax.lax.top_k(jnp.where(ends, scores + _NEVER, scores), beams)
        best_live = live_scores[:, 0] / position.astype(jnp.float32) ** length_penalty
        all_done = jnp.all(done_scores > _NEVER / 2, axis=1)
        rows = (jnp.arange(batch)[:, None] * beams + jnp.take_along_axis(parents, kept, axis=1)).reshape(-1)
        return _Beams(
            position=position,
            live=_chosen(sequences, kept),
            live_scores=live_scores,
            live_log_probs=_chosen(histories, kept),
            done=done,
            done_scores=done_scores,
            done_log_probs=done_log_probs,
            settled=state.settled | (all_done & (best_live <= done_scores[:, -1])),
            tokens=jnp.take_along_axis(chosen_tokens, kept, axis=1).reshape(-1, 1),
            cache=_map_rows(lambda leaf: jnp.take(leaf, rows, axis=cache_offset), cache, cache_offset),
        )

    state = jax.lax.while_loop(going_on, advance, first)
    return state.done[:, 0], state.done_scores[:, 0], state.done_log_probs[:, 0]


def _chosen(rows: Array, indices: Int[Array, "batch chosen"]) -> Array:
    """The rows ``[batch, chosen, length]`` with these indices of ``[batch, rows, length]``."""
    return jnp.take_along_axis(rows, indices[:, :, None], axis=1)


def _with_next(rows: Array, parents: Int[Array, "batch chosen"], following: Array, position: Int[Array, ""]) -> Array:
    """The chosen rows, with their next element ``[batch, chosen]`` written at ``position``."""
    return jax.lax.dynamic_update_slice_in_dim(_chosen(rows, parents), following[:, :, None], position, axis=2)


def _map_rows(change: Callable[[Array], Array], cache: Any, offset: int) -> Any:
    """Applies ``change`` to the leaves that have a value per row; an index that all rows share is unchanged."""
    return jax.tree.map(lambda leaf: change(leaf) if leaf.ndim > offset else leaf, cache)


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

    def __call__(self, batch: Sequence[Sequence[int]], *, batch_size: int | None = None) -> list[Output]:
        """The outputs of a batch, in order.

        Args:
          batch: token ids of the inputs.
          batch_size: number of rows to compute; missing rows are copies of the first. By default the number of inputs.

        Returns:
          For each input, the ids of the output (including the end token, if reached), its score, and the
          log-probabilities of its ids. The score is the log-probability of the output, divided by the length penalty if
          there are several beams.
        """
        rows = [*batch, *([batch[0]] * max(0, (batch_size or 0) - len(batch)))]
        length = padded_length(max(map(len, rows)))
        ids, mask = np.zeros((len(rows), length), np.int32), np.zeros((len(rows), length), np.int32)
        for i, row in enumerate(rows):
            where = slice(length - len(row), length) if self._decoder_only else slice(0, len(row))
            ids[i, where], mask[i, where] = row, 1
        found = (np.asarray(array)[: len(batch)].tolist() for array in self._decode(self._parameters, ids, mask))
        cut = ((self._cut(row), score, log_probs) for row, score, log_probs in zip(*found, strict=True))
        return [Output(row, score, log_probs[: len(row)]) for row, score, log_probs in cut]

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
) -> Found:
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
) -> Found:
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
) -> Found:
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
