"""Beam search with a student in JAX, token by token.

Choices and scores are those of transformers' ``generate``. The engine's beam search, which evaluation during training
uses, follows T5X: it lets a beam finish from anywhere among twice as many candidates as beams, and returns unfinished
beams only if none finished. transformers and CTranslate2 let it finish among the best candidates only, and end every
beam at the greatest length. Served outputs must be the same in all three, so serving follows transformers.
"""

from __future__ import annotations

import dataclasses
from functools import partial
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from fsa_jax.serving.jax_decoding import Found, Step, map_rows

_NEVER = -1e9


@flax.struct.dataclass
class BeamSearch:
    """Beam search; beams are sorted by score, the best first.

    An output is done when its next token is the end token and among the ``beams`` best candidates, or when it has the
    greatest length. Its score is its log-probability divided by (tokens ^ ``length_penalty``). An example is settled
    when ``beams`` outputs are done and the best unfinished one, scored at its current length, is not better than the
    worst of them, or at the greatest length.
    """

    position: Int[Array, " batch"]
    tokens: Int[Array, "rows 1"]
    cache: Any
    settled: Bool[Array, " batch"]
    live: Int[Array, "batch beams length"]
    live_scores: Float[Array, "batch beams"]
    live_log_probs: Float[Array, "batch beams length"]
    done: Int[Array, "batch beams length"]
    done_scores: Float[Array, "batch beams"]
    done_log_probs: Float[Array, "batch beams length"]
    length_penalty: float = flax.struct.field(pytree_node=False)
    offset: int = flax.struct.field(pytree_node=False)

    @classmethod
    def start(
        cls,
        tokens: Int[Array, "batch 1"],
        cache: Any,
        length: int,
        *,
        beams: int,
        length_penalty: float,
        offset: int,
    ) -> BeamSearch:
        """The state before the first token.

        Args:
          tokens: token before the outputs.
          cache: cache of the network, with one row per example.
          length: longest output in tokens.
          beams: number of beams.
          length_penalty: exponent of the length penalty; 0 for none, larger values prefer longer outputs.
          offset: axis of the rows in the cache; 1 if layers are stacked on axis 0.
        """
        batch = tokens.shape[0]
        empty = jnp.zeros((batch, beams, length), jnp.int32)
        # All beams are equal at first, so only one may have a score.
        first_scores = jnp.where(jnp.arange(beams) == 0, 0.0, _NEVER).astype(jnp.float32)
        return cls(
            position=empty[:, 0, 0],
            tokens=jnp.repeat(tokens, beams, axis=0),
            cache=map_rows(lambda leaf: jnp.repeat(leaf, beams, axis=offset), cache, offset=offset, context=False),
            settled=empty[:, 0, 0] > 0,
            live=empty,
            live_scores=jnp.broadcast_to(first_scores[None, :], (batch, beams)),
            live_log_probs=empty.astype(jnp.float32),
            done=empty,
            done_scores=jnp.full((batch, beams), _NEVER, jnp.float32),
            done_log_probs=empty.astype(jnp.float32),
            length_penalty=length_penalty,
            offset=offset,
        )

    def advance(self, step: Step, end_id: int) -> BeamSearch:
        """The state after one more token."""
        batch, beams, length = self.live.shape
        logits, cache = step(self.tokens, self.cache)
        vocab = logits.shape[-1]
        log_probs = jax.nn.log_softmax(logits).reshape(batch, beams, vocab)
        candidates = (self.live_scores[:, :, None] + log_probs).reshape(batch, beams * vocab)
        # Twice as many candidates as beams, so that enough remain even if the best candidate of every beam ends.
        scores, chosen = jax.lax.top_k(candidates, 2 * beams)
        parents, chosen_tokens = chosen // vocab, (chosen % vocab).astype(jnp.int32)
        chosen_log_probs = jnp.take_along_axis(log_probs.reshape(batch, beams * vocab), chosen, axis=1)
        sequences = _with_next(self.live, parents, chosen_tokens, self.position)
        histories = _with_next(self.live_log_probs, parents, chosen_log_probs, self.position)
        position = self.position + ~self.settled
        ends = (chosen_tokens == end_id) | (position == length)[:, None]

        among_best = (jnp.arange(2 * beams) < beams)[None, :]
        counts = ends & among_best & ~self.settled[:, None]
        penalty = position.astype(jnp.float32)[:, None] ** self.length_penalty
        penalised = jnp.where(counts, scores / penalty, _NEVER)
        done_scores, best = jax.lax.top_k(jnp.concatenate([self.done_scores, penalised], axis=1), beams)

        live_scores, kept = jax.lax.top_k(jnp.where(ends, scores + _NEVER, scores), beams)
        all_done = jnp.all(done_scores > _NEVER / 2, axis=1)
        rows = (jnp.arange(batch)[:, None] * beams + jnp.take_along_axis(parents, kept, axis=1)).reshape(-1)
        return dataclasses.replace(
            self,
            position=position,
            tokens=jnp.take_along_axis(chosen_tokens, kept, axis=1).reshape(-1, 1),
            cache=map_rows(partial(jnp.take, indices=rows, axis=self.offset), cache, offset=self.offset, context=False),
            settled=self.settled
            | (position == length)
            | (all_done & (live_scores[:, 0] / penalty[:, 0] <= done_scores[:, -1])),
            live=_chosen(sequences, kept),
            live_scores=live_scores,
            live_log_probs=_chosen(histories, kept),
            done=_chosen(jnp.concatenate([self.done, sequences], axis=1), best),
            done_scores=done_scores,
            done_log_probs=_chosen(jnp.concatenate([self.done_log_probs, histories], axis=1), best),
        )

    def found(self) -> Found:
        """The best outputs that are done, and their scores."""
        return self.done[:, 0], self.done_scores[:, 0], self.done_log_probs[:, 0]


def _chosen(rows: Array, indices: Int[Array, "batch chosen"]) -> Array:
    """The rows ``[batch, chosen, length]`` with these indices of ``[batch, rows, length]``."""
    return jnp.take_along_axis(rows, indices[:, :, None], axis=1)


def _with_next(
    rows: Array, parents: Int[Array, "batch chosen"], following: Array, position: Int[Array, " batch"]
) -> Array:
    """The chosen rows, with their next element ``[batch, chosen]`` written at ``position``."""
    here = jnp.arange(rows.shape[2])[None, None, :] == position[:, None, None]
    return jnp.where(here, following[:, :, None], _chosen(rows, parents))
