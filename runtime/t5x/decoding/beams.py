"""Beam search with the length penalty of Wu et al. 2016 (arXiv 1609.08144, section 7)."""

from __future__ import annotations

from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from t5x.decoding.cache import DecodingState, TokensToLogits, drop_left, repeat_cache, select_decodes


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
    min_log_prob: float = -1e7,
    decode_rng: Array | None = None,
    cache_offset: int = 0,
    initial_index: Int[Array, " batch"] | None = None,
) -> tuple[Int[Array, "batch num_decodes length"], Float[Array, "batch num_decodes"]]:
    """Returns the ``num_decodes`` best continuations that the search finds, sorted by score, the best last.

    Args:
      inputs: prompts: the beginning token, then tokens that every decode must begin with, then zeros.
      cache: the network's cache, a row an example.
      tokens_to_logits: the network.
      eos_id: ends a decode. It stays in the result, zeros follow it.
      num_decodes: beams.
      alpha: strength of the penalty ((5 + tokens) / 6)^alpha that divides a finished decode's log-probability; 0 for
        none. Tokens of the prompt count.
      max_decode_len: longest decode, the prompt included; ``length`` if None.
      max_decode_step: most steps of the search; -1 for no limit.
      min_log_prob: stands for log 0.
      decode_rng: not used; beam search makes no random choice.
      cache_offset: axis of the examples in the cache.
      initial_index: position up to which the prompt is in the cache already; 0 if None. Where it is given, zeros before
        the first token are dropped.

    Returns:
      ids without the beginning token, and scores: the penalised log-probability of what follows the prompt. Where no
      beam of an example finished, its live beams with their log-probabilities, not penalised.
    """
    del decode_rng
    batch = inputs.shape[0]
    length = inputs.shape[1] if max_decode_len is None else max_decode_len
    steps = length if max_decode_step < 0 else min(length, max_decode_step)
    start = jnp.zeros((batch,), jnp.int32) if initial_index is None else initial_index.astype(jnp.int32)
    # Column 0 is the beginning token; a forced token of 0 is none.
    prompts = jnp.pad(inputs, ((0, 0), (0, length + 1)))[:, : length + 1].astype(jnp.int32)
    known = jnp.where(jnp.arange(length + 1)[None, :] <= start[:, None], prompts, 0)
    sequences = jnp.repeat(known[:, None, :], num_decodes, axis=1)
    # All beams begin alike, so only one may win at first.
    first_scores = jnp.where(jnp.arange(num_decodes) == num_decodes - 1, 0.0, min_log_prob).astype(jnp.float32)
    state = _Beams(
        step=jnp.zeros((), jnp.int32),
        live_scores=jnp.broadcast_to(first_scores[None, :], (batch, num_decodes)),
        live_sequences=sequences,
        finished=jnp.zeros((batch, num_decodes), bool),
        finished_scores=jnp.full((batch, num_decodes), min_log_prob, jnp.float32),
        finished_sequences=sequences,
        cache=repeat_cache(cache, num_decodes, cache_offset),
    )

    def rows_going_on(state: _Beams) -> Bool[Array, " batch"]:
        # A live beam can only lose probability, and gains most from the penalty at the greatest length.
        best_live = state.live_scores[:, -1] / _length_penalty(alpha, length)
        worst_finished = jnp.where(jnp.all(state.finished, axis=1), jnp.min(state.finished_scores, axis=1), -jnp.inf)
        return (start + state.step < length) & (worst_finished <= best_live)

    def going_on(state: _Beams) -> Bool[Array, ""]:
        return (state.step < steps) & jnp.any(rows_going_on(state))

    def step(state: _Beams) -> _Beams:
        position = start + state.step
        here = jnp.minimum(position, length - 1)
        tokens = _at_position(state.live_sequences, here)
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
        forced = jnp.take_along_axis(prompts, here[:, None] + 1, axis=1)
        is_forced = forced != 0
        only_forced = jnp.where(jnp.arange(vocab_size)[None, :] == forced, 0.0, min_log_prob)
        log_probs = jnp.where(is_forced[:, :, None], only_forced[:, None, :], log_probs)

        # Twice as many candidates as beams: even if every beam's best one ends, as many go on.
        candidates = (state.live_scores[:, :, None] + log_probs).reshape(batch, num_decodes * vocab_size)
        scores, chosen = jax.lax.top_k(candidates, min(2 * num_decodes, candidates.shape[1]))
        parents, chosen_tokens = chosen // vocab_size, (chosen % vocab_size).astype(jnp.int32)
        sequences = _take_beams(state.live_sequences, parents)
        written = jnp.arange(length + 1)[None, None, :] == (here + 1)[:, None, None]
        sequences = jnp.where(written, chosen_tokens[:, :, None], sequences)
        ends = (chosen_tokens == eos_id) & ~is_forced

        live = _best_last(jnp.where(ends, scores + min_log_prob, scores), num_decodes)
        penalised = scores / _length_penalty(alpha, position[:, None] + 1)
        all_scores = jnp.concatenate([state.finished_scores, jnp.where(ends, penalised, min_log_prob)], axis=1)
        finished = _best_last(all_scores, num_decodes)
        advanced = _Beams(
            step=state.step + 1,
            live_scores=_take_beams(jnp.where(ends, scores + min_log_prob, scores), live),
            live_sequences=_take_beams(sequences, live),
            finished=_take_beams(jnp.concatenate([state.finished, ends], axis=1), finished),
            finished_scores=_take_beams(all_scores, finished),
            finished_sequences=_take_beams(jnp.concatenate([state.finished_sequences, sequences], axis=1), finished),
            cache=select_decodes(cache, _take_beams(parents, live), cache_offset),
        )
        if initial_index is None:
            return advanced
        # Rows that began later in their sequence reach its end sooner; they wait for the others unchanged.
        return _keep_rows(position < length, advanced, state)

    state = jax.lax.while_loop(going_on, step, state)
    any_finished = jnp.any(state.finished, axis=1)
    decodes = jnp.where(any_finished[:, None, None], state.finished_sequences, state.live_sequences)
    scores = jnp.where(any_finished[:, None], state.finished_scores, state.live_scores)
    decodes = decodes[:, :, 1:]
    if initial_index is not None:
        decodes = drop_left(decodes, jnp.argmax(decodes != 0, axis=-1))
    return decodes, scores


def _at_position(
    sequences: Int[Array, "batch beams positions"], position: Int[Array, " batch"]
) -> Int[Array, "batch beams 1"]:
    return jnp.take_along_axis(sequences, position[:, None, None], axis=2)


def _keep_rows(moving: Bool[Array, " batch"], new: _Beams, old: _Beams) -> _Beams:
    """``new`` for the rows that are ``moving``, ``old`` for the others; cache and step are always new."""

    def choose(after: Array, before: Array) -> Array:
        return jnp.where(moving.reshape(-1, *(1,) * (after.ndim - 1)), after, before)

    fields = ("live_scores", "live_sequences", "finished", "finished_scores", "finished_sequences")
    return new.replace(**{name: choose(getattr(new, name), getattr(old, name)) for name in fields})  # type: ignore[attr-defined]
