"""Greedy decoding and beam search, with the choices and scores of transformers' ``generate``.

T5X's beam search (used by the engine for evaluation during training) considers twice as many candidates as beams, and
any of them may finish; it returns unfinished beams only if none has finished. In transformers and CTranslate2 only the
best candidates, as many as beams, may finish, and every beam ends at the maximum length. Serving follows these two, so
that JAX, transformers and CTranslate2 give the same outputs.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

Step = Callable[[Int[Array, "rows 1"], Any], tuple[Float[Array, "rows vocab"], Any]]
"""A decoding step: takes the last tokens and the cache; returns the logits of the next tokens and the updated cache."""

_NEVER = -1e9


def greedy(
    tokens: Int[Array, "batch 1"], cache: Any, step: Step, end_id: int, length: int
) -> tuple[Int[Array, "batch length"], Float[Array, " batch"]]:
    """Greedy decoding: chooses the most likely token at each step, up to ``end_id`` or ``length``.

    Returns:
      The ids, with zeros after the end, and their log-probability.
    """
    batch = tokens.shape[0]
    outputs, scores = jnp.zeros((batch, length), jnp.int32), jnp.zeros((batch,), jnp.float32)
    first = (jnp.zeros((), jnp.int32), tokens, cache, outputs, scores, jnp.zeros((batch,), bool))

    def going_on(state: tuple) -> Bool[Array, ""]:
        return (state[0] < length) & ~jnp.all(state[-1])

    def advance(state: tuple) -> tuple:
        position, tokens, cache, outputs, scores, ended = state
        logits, cache = step(tokens, cache)
        chosen = jnp.argmax(logits, axis=-1).astype(jnp.int32)
        log_probs = jnp.take_along_axis(jax.nn.log_softmax(logits), chosen[:, None], axis=-1)[:, 0]
        chosen = jnp.where(ended, 0, chosen)
        outputs = jax.lax.dynamic_update_slice_in_dim(outputs, chosen[:, None], position, axis=1)
        scores = scores + jnp.where(ended, 0.0, log_probs)
        return position + 1, chosen[:, None], cache, outputs, scores, ended | (chosen == end_id)

    state = jax.lax.while_loop(going_on, advance, first)
    return state[3], state[4]


@flax.struct.dataclass
class _Beams:
    """State of the search after ``position`` tokens; beams are sorted by score, the best first."""

    position: Int[Array, ""]
    live: Int[Array, "batch beams length"]
    live_scores: Float[Array, "batch beams"]
    done: Int[Array, "batch beams length"]
    done_scores: Float[Array, "batch beams"]
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
) -> tuple[Int[Array, "batch length"], Float[Array, " batch"]]:
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
      The ids, with zeros after the end, and the scores.
    """
    batch = tokens.shape[0]
    empty = jnp.zeros((batch, beams, length), jnp.int32)
    # All beams are equal at first, so only one may have a score.
    first_scores = jnp.where(jnp.arange(beams) == 0, 0.0, _NEVER).astype(jnp.float32)
    first = _Beams(
        position=jnp.zeros((), jnp.int32),
        live=empty,
        live_scores=jnp.broadcast_to(first_scores[None, :], (batch, beams)),
        done=empty,
        done_scores=jnp.full((batch, beams), _NEVER, jnp.float32),
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
        sequences = jnp.take_along_axis(state.live, parents[:, :, None], axis=1)
        sequences = jax.lax.dynamic_update_slice_in_dim(sequences, chosen_tokens[:, :, None], state.position, axis=2)
        position = state.position + 1
        ends = (chosen_tokens == end_id) | (position == length)

        among_best = (jnp.arange(2 * beams) < beams)[None, :]
        counts = ends & among_best & ~state.settled[:, None]
        penalised = jnp.where(counts, scores / position.astype(jnp.float32) ** length_penalty, _NEVER)
        done_scores, best = jax.lax.top_k(jnp.concatenate([state.done_scores, penalised], axis=1), beams)
        done = jnp.take_along_axis(jnp.concatenate([state.done, sequences], axis=1), best[:, :, None], axis=1)

        live_scores, kept = jax.lax.top_k(jnp.where(ends, scores + _NEVER, scores), beams)
        best_live = live_scores[:, 0] / position.astype(jnp.float32) ** length_penalty
        all_done = jnp.all(done_scores > _NEVER / 2, axis=1)
        rows = (jnp.arange(batch)[:, None] * beams + jnp.take_along_axis(parents, kept, axis=1)).reshape(-1)
        return _Beams(
            position=position,
            live=jnp.take_along_axis(sequences, kept[:, :, None], axis=1),
            live_scores=live_scores,
            done=done,
            done_scores=done_scores,
            settled=state.settled | (all_done & (best_live <= done_scores[:, -1])),
            tokens=jnp.take_along_axis(chosen_tokens, kept, axis=1).reshape(-1, 1),
            cache=_map_rows(lambda leaf: jnp.take(leaf, rows, axis=cache_offset), cache, cache_offset),
        )

    state = jax.lax.while_loop(going_on, advance, first)
    return state.done[:, 0], state.done_scores[:, 0]


def _map_rows(change: Callable[[Array], Array], cache: Any, offset: int) -> Any:
    """Applies ``change`` to the leaves that have a value per row; an index that all rows share is unchanged."""
    return jax.tree.map(lambda leaf: change(leaf) if leaf.ndim > offset else leaf, cache)
