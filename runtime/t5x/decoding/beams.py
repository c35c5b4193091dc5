"""Beam search with the length penalty of Wu et al. 2016 (arXiv 1609.08144, section 7)."""

from __future__ import annotations

from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from t5x.decoding.networks import DecodingState, TokensToLogits, drop_left, repeat_cache, select_decodes

LOG_ZERO = -1e7
"""Stands for log 0; two of them add up to a number."""


@flax.struct.dataclass
class _Beams:
    """The search after ``step`` tokens; beams are sorted by score, the best last."""

    step: Int[Array, ""]
    live_scores: Float[Array, "batch beams"]
    live_sequences: Int[Array, "batch beams positions"]
    finished: Bool[Array, "batch beams"]
    finished_scores: Float[Array, "batch beams"]
    finished_sequences: Int[Array, "batch beams positions"]
    cache: Any


def _length_penalty(alpha: float, tokens: Any) -> Any:
    return ((5.0 + tokens) / 6.0) ** alpha


def _take_beams(values: Array, beams: Int[Array, "batch chosen"]) -> Array:
    """(batch, beams, …) to (batch, chosen, …)."""
    return jnp.take_along_axis(values, beams.reshape(*beams.shape, *(1,) * (values.ndim - 2)), axis=1)


def _best_last(scores: Float[Array, "batch candidates"], count: int) -> Int[Array, "batch count"]:
    """Indices of the ``count`` best, in ascending order of score."""
    return jnp.flip(jax.lax.top_k(scores, count)[1], axis=1)


def beam_search(
    inputs: Int[Array, "batch length"],
    cache: Any,
    tokens_to_logits: TokensToLogits,
    eos_id: int,
    num_decodes: int = 4,
    alpha: float = 0.6,
    max_decode_len: int | None = None,
    max_decode_step: int = -1,
    min_log_prob: float = LOG_ZERO,
    decode_rng: Array | None = None,
    cache_offset: int = 0,
    initial_index: Int[Array, " batch"] | None = None,
) -> tuple[Int[Array, "batch num_decodes length"], Float[Array, "batch num_decodes"]]:
    """Returns the ``num_decodes`` best continuations that are found, sorted by score, the best last.

    All examples are decoded in parallel, until none can improve or the one with the shortest prompt has reached
    ``max_decode_len``. Until then, decodes of examples with longer prompts may become longer than that: their score is
    that of the whole decode, and they are cut to that length. So results can depend on the other prompts of the batch,
    as in T5X. A ``max_decode_step`` that allows as many tokens after the longest prompt avoids this.

    Args:
      inputs: Prompts: the beginning token, then tokens with which every decode must begin, then zeros.
      cache: Cache of the network, one row per example.
      tokens_to_logits: Calls the network.
      eos_id: Token that ends a decode. It stays in the result, followed by zeros.
      num_decodes: Number of beams.
      alpha: Exponent of the penalty ((5 + tokens) / 6)^alpha, by which the log-probability of a finished decode is
        divided; 0 for no penalty. Tokens of the prompt count.
      max_decode_len: Maximum length of a decode, including the prompt. If None, ``length``.
      max_decode_step: Maximum number of steps. If not positive, there is no limit.
      min_log_prob: The search ends when no live beam of any example has a higher log-probability.
      decode_rng: Ignored; beam search is not random.
      cache_offset: Axis of the examples in the cache.
      initial_index: Position up to which the prompt is already in the cache. If None, 0; otherwise zeros before the
        first token are dropped.

    Returns:
      Ids without the beginning token, and scores: the penalised log-probability of the tokens after the prompt. If no
      beam of an example is finished, its live beams with their log-probabilities, without penalty.
    """
    del decode_rng
    batch = inputs.shape[0]
    length = inputs.shape[1] if max_decode_len is None else max_decode_len
    start = jnp.zeros((batch,), jnp.int32) if initial_index is None else initial_index.astype(jnp.int32)
    prompts = jnp.pad(inputs, ((0, 0), (0, length + 1)))[:, : length + 1].astype(jnp.int32)
    # Sequences begin with the last token in the cache, or with the beginning token if the cache is empty.
    first = jnp.take_along_axis(prompts, start[:, None], axis=1)
    sequences = jnp.broadcast_to(jnp.pad(first, ((0, 0), (0, length)))[:, None, :], (batch, num_decodes, length + 1))
    # All beams are equal at the beginning, so only one may be selected.
    first_scores = jnp.where(jnp.arange(num_decodes) == num_decodes - 1, 0.0, LOG_ZERO).astype(jnp.float32)
    state = _Beams(
        step=jnp.zeros((), jnp.int32),
        live_scores=jnp.broadcast_to(first_scores[None, :], (batch, num_decodes)),
        live_sequences=sequences,
        finished=jnp.zeros((batch, num_decodes), bool),
        finished_scores=jnp.full((batch, num_decodes), LOG_ZERO, jnp.float32),
        finished_sequences=sequences,
        cache=repeat_cache(cache, num_decodes, cache_offset),
    )

    def going_on(state: _Beams) -> Bool[Array, ""]:
        room = jnp.min(start) + state.step < length
        if max_decode_step > 0:
            room &= state.step < max_decode_step
        # The probability of a live beam can only decrease, and the penalty favours it most at the maximum length.
        best_live = state.live_scores[:, -1]
        worst_finished = jnp.where(jnp.all(state.finished, axis=1), jnp.min(state.finished_scores, axis=1), -jnp.inf)
        improvable = worst_finished <= best_live / _length_penalty(alpha, length + 1)
        probable = (best_live >= min_log_prob) | (state.step == 0)
        return room & jnp.any(improvable) & jnp.any(probable)

    def step(state: _Beams) -> _Beams:
        position = start + state.step
        tokens = jax.lax.dynamic_index_in_dim(state.live_sequences, state.step, axis=2)
        rows = batch * num_decodes
        logits, cache = tokens_to_logits(
            DecodingState(
                cur_index=state.step if initial_index is None else jnp.repeat(position, num_decodes),
                sequences=state.live_sequences.reshape(rows, -1),
                cur_token=tokens.reshape(rows, 1),
                cache=state.cache,
            )
        )
        vocab_size = logits.shape[-1]
        log_probs = jax.nn.log_softmax(logits.astype(jnp.float32)).reshape(batch, num_decodes, vocab_size)
        # If only the beginning token is in the cache, the rest of the prompt is forced here; 0 forces nothing.
        forced = prompts[:, state.step + 1, None] if initial_index is None else jnp.zeros((batch, 1), jnp.int32)
        is_forced = forced != 0
        only_forced = jnp.where(jnp.arange(vocab_size)[None, :] == forced, 0.0, LOG_ZERO)
        log_probs = jnp.where(is_forced[:, :, None], only_forced[:, None, :], log_probs)

        # Twice as many candidates as beams: even if the best one of every beam ends, enough remain.
        candidates = (state.live_scores[:, :, None] + log_probs).reshape(batch, num_decodes * vocab_size)
        scores, chosen = jax.lax.top_k(candidates, min(2 * num_decodes, candidates.shape[1]))
        parents, chosen_tokens = chosen // vocab_size, (chosen % vocab_size).astype(jnp.int32)
        sequences = _take_beams(state.live_sequences, parents)
        sequences = jax.lax.dynamic_update_index_in_dim(sequences, chosen_tokens[:, :, None], state.step + 1, axis=2)
        ends = (chosen_tokens == eos_id) & ~is_forced

        live_scores = jnp.where(ends, scores + LOG_ZERO, scores)
        live = _best_last(live_scores, num_decodes)
        penalised = scores / _length_penalty(alpha, position[:, None] + 1)
        all_scores = jnp.concatenate([state.finished_scores, jnp.where(ends, penalised, LOG_ZERO)], axis=1)
        finished = _best_last(all_scores, num_decodes)
        return _Beams(
            step=state.step + 1,
            live_scores=_take_beams(live_scores, live),
            live_sequences=_take_beams(sequences, live),
            finished=_take_beams(jnp.concatenate([state.finished, ends], axis=1), finished),
            finished_scores=_take_beams(all_scores, finished),
            finished_sequences=_take_beams(jnp.concatenate([state.finished_sequences, sequences], axis=1), finished),
            cache=select_decodes(cache, _take_beams(parents, live), cache_offset),
        )

    state = jax.lax.while_loop(going_on, step, state)
    any_finished = jnp.any(state.finished, axis=1)
    decodes = jnp.where(any_finished[:, None, None], state.finished_sequences, state.live_sequences)
    scores = jnp.where(any_finished[:, None], state.finished_scores, state.live_scores)
    if initial_index is None:
        return decodes[:, :, 1:], scores
    return _after_prompts(prompts, decodes, start), scores


def _after_prompts(
    prompts: Int[Array, "batch positions"],
    continuations: Int[Array, "batch beams positions"],
    start: Int[Array, " batch"],
) -> Int[Array, "batch beams length"]:
    """Returns prompts with ``continuations``, which begin with the token at ``start``; drops zeros on the left."""
    place = jnp.arange(1, prompts.shape[1])[None, None, :] - start[:, None, None]
    continued = jnp.take_along_axis(
        continuations, jnp.broadcast_to(jnp.maximum(place, 0), continuations[..., 1:].shape), 2
    )
    decodes = jnp.where(place <= 0, prompts[:, None, 1:], continued)
    return drop_left(decodes, jnp.argmax(decodes != 0, axis=-1))
