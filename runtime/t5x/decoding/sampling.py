"""Sampling with a temperature: from all tokens, from the k most probable ones, or from the nucleus."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from fsa_base.errors import SettingError
from fsa_base.networks.layers import most_likely
from t5x.decoding.networks import DecodingState, TokensToLogits, repeat_cache, repeat_for_decodes

_IMPOSSIBLE = -1e7


@flax.struct.dataclass
class SamplingLoopState:
    """The state of the loop in :func:`temperature_sample`; callbacks get it.

    Attributes:
      cur_index: (rows,) Position of ``cur_token``.
      sequences: (rows, length + 1) The beginning token and the tokens so far, followed by zeros.
      cache: Cache of the network.
      cur_token: (rows, 1) The last token.
      ended: (rows, 1) Whether the decode has ended.
      rng: Random key for the next steps.
      log_prob: (rows, 1) Log-probability of the tokens after the prompt.
    """

    cur_index: Int[Array, " rows"]
    sequences: Int[Array, "rows positions"]
    cache: Any
    cur_token: Int[Array, "rows 1"]
    ended: Bool[Array, "rows 1"]
    rng: Array
    log_prob: Float[Array, "rows 1"]


def temperature_sample(
    inputs: Int[Array, "batch length"],
    cache: Any,
    tokens_to_logits: TokensToLogits,
    eos_id: int,
    decode_rng: Array | None = None,
    num_decodes: int = 1,
    temperature: float = 1.0,
    topk: int = 1,
    topp: float = 0.0,
    cache_offset: int = 0,
    initial_index: Int[Array, " batch"] | None = None,
    max_decode_steps: int | Int[Array, " batch"] | None = None,
    max_decode_steps_hard_limit: int | None = None,
    rescale_log_probs: bool = True,
    state_callback_fn: Callable[[SamplingLoopState], SamplingLoopState] | None = None,
    logit_callback_fn: Callable[[Array, SamplingLoopState], Array] | None = None,
) -> tuple[Int[Array, "batch num_decodes length"], Float[Array, "batch num_decodes"]]:
    """Returns ``num_decodes`` samples of each example, sorted by log-probability, the most probable last.

    Args:
      inputs: Prompts: the beginning token, then tokens with which every decode must begin, then zeros.
      cache: Cache of the network, one row per example.
      tokens_to_logits: Calls the network.
      eos_id: Token that ends a decode, unless it belongs to the prompt. It stays in the result, followed by zeros.
      decode_rng: Random key. If None, ``PRNGKey(0)``.
      num_decodes: Samples per example.
      temperature: Divisor of the logits; 0 selects the most probable token.
      topk: Sample from the k most probable tokens; 0 for all. The default, 1, is greedy decoding.
      topp: Sample from the smallest set of tokens with this total probability (nucleus sampling, arXiv 1904.09751); 0
        for all tokens. Cannot be combined with ``topk``.
      cache_offset: Axis of the examples in the cache.
      initial_index: Position up to which the prompt is already in the cache. If None, 0.
      max_decode_steps: Maximum number of tokens after the prompt. If None, limited only by ``length``.
      max_decode_steps_hard_limit: Upper bound of ``max_decode_steps`` if that is an array.
      rescale_log_probs: Whether scores are log-probabilities of the distribution that is sampled from (0 for greedy
        decoding) or of the network.
      state_callback_fn: Returns the state to use for the next step.
      logit_callback_fn: Returns the logits (rows, vocabulary) to use, given the logits and the state.

    Returns:
      Ids without the beginning token, and the log-probability of the tokens after the prompt.

    Raises:
      SettingError: Both ``topk`` and ``topp`` are given.
    """
    if topk and topp:
        raise SettingError(
            "temperature_sample",
            expected="topk or topp",
            found=f"both: topk={topk}, topp={topp}",
            fix="--gin.decoding.temperature_sample.topk=0",
        )
    batch, length = inputs.shape
    prompts = jnp.pad(repeat_for_decodes(inputs.astype(jnp.int32), num_decodes), ((0, 0), (0, 1)))
    positions = jnp.arange(length + 1)[None, :]
    if initial_index is None:
        start = jnp.zeros((batch * num_decodes,), jnp.int32)
    else:
        start = repeat_for_decodes(initial_index.astype(jnp.int32), num_decodes)
    end = jnp.full_like(start, length)
    if max_decode_steps is not None:
        most = jnp.asarray(max_decode_steps, jnp.int32)
        if max_decode_steps_hard_limit is not None:
            most = jnp.minimum(most, max_decode_steps_hard_limit)
        most = repeat_for_decodes(jnp.broadcast_to(most, (batch,)), num_decodes)
        prompt_end = jnp.maximum(start, jnp.max(jnp.where(prompts != 0, positions, 0), axis=1))
        end = jnp.minimum(end, prompt_end + most)
    sequences = jnp.where(positions <= start[:, None], prompts, 0)
    state = SamplingLoopState(
        cur_index=start,
        sequences=sequences,
        cache=repeat_cache(cache, num_decodes, cache_offset),
        cur_token=jnp.take_along_axis(sequences, start[:, None], axis=1),
        ended=(start >= end)[:, None],
        rng=jax.random.PRNGKey(0) if decode_rng is None else decode_rng,
        log_prob=jnp.zeros((batch * num_decodes, 1), jnp.float32),
    )

    def step(state: SamplingLoopState) -> SamplingLoopState:
        if state_callback_fn is not None:
            state = state_callback_fn(state)
        logits, cache = tokens_to_logits(DecodingState(state.cur_index, state.sequences, state.cur_token, state.cache))
        if logit_callback_fn is not None:
            logits = logit_callback_fn(logits, state)
        step_rng, rng = jax.random.split(state.rng)
        sampled, log_prob = _sample(step_rng, logits, temperature, topk, topp, rescale_log_probs)
        following = jnp.minimum(state.cur_index + 1, length)[:, None]
        forced = jnp.take_along_axis(prompts, following, axis=1)
        in_prompt = forced != 0
        token = jnp.where(in_prompt, forced, sampled)
        token = jnp.where(state.ended, 0, token)
        return SamplingLoopState(
            cur_index=state.cur_index + 1,
            sequences=jnp.where((positions == following) & ~state.ended, token, state.sequences),
            cache=cache,
            cur_token=token,
            ended=state.ended | (~in_prompt & (token == eos_id)) | (state.cur_index + 1 >= end)[:, None],
            rng=rng,
            log_prob=state.log_prob + jnp.where(in_prompt | state.ended, 0.0, log_prob),
        )

    state = jax.lax.while_loop(lambda state: ~jnp.all(state.ended), step, state)
    decodes = state.sequences[:, 1:].reshape(batch, num_decodes, length)
    scores = state.log_prob.reshape(batch, num_decodes)
    order = jnp.argsort(scores, axis=-1)
    return jnp.take_along_axis(decodes, order[:, :, None], axis=1), jnp.take_along_axis(scores, order, axis=-1)


def _sample(
    rng: Array, logits: Float[Array, "rows vocab"], temperature: float, topk: int, topp: float, rescale: bool
) -> tuple[Int[Array, "rows 1"], Float[Array, "rows 1"]]:
    """Returns a token for every row and its log-probability."""
    logits = logits.astype(jnp.float32)
    if temperature == 0:
        temperature, topk, topp = 1.0, 1, 0.0
    if topk == 1:  # Of equal logits the first; needs no random numbers.
        token, log_prob = most_likely(logits)
        return token, jnp.zeros_like(log_prob) if rescale else log_prob
    scores = logits / temperature
    if topk:
        scores = _at_least(scores, jax.lax.top_k(scores, topk)[0][:, -1:])
    elif topp:
        scores = _at_least(scores, _least_in_nucleus(scores, topp))
    token = jax.random.categorical(rng, scores).astype(jnp.int32)[:, None]
    log_probs = jax.nn.log_softmax(scores if rescale else logits)
    return token, jnp.take_along_axis(log_probs, token, axis=-1)


def _at_least(scores: Float[Array, "rows vocab"], least: Float[Array, "rows 1"]) -> Float[Array, "rows vocab"]:
    """Sets scores below ``least`` to a value with probability 0."""
    return jnp.where(scores < least, _IMPOSSIBLE, scores)


def _least_in_nucleus(scores: Float[Array, "rows vocab"], topp: float) -> Float[Array, "rows 1"]:
    """Returns the score of the last token of the nucleus: the most probable tokens with total probability ``topp``."""
    descending = jnp.flip(jnp.sort(scores, axis=-1), axis=-1)
    below = jnp.cumsum(jax.nn.softmax(descending), axis=-1) < topp
    last = jnp.minimum(jnp.sum(below, axis=-1, keepdims=True), scores.shape[-1] - 1)
    return jnp.take_along_axis(descending, last, axis=-1)
