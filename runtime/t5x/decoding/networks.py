"""Decoding with a network: its cache for several decodes of each example, and the steps of encoder-decoders and others.

The decodes of an example are adjacent rows: row ``example * decodes + decode``.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

import flax.linen as nn
import flax.struct
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int


@flax.struct.dataclass
class DecodingState:
    """The input of a network for the next token.

    Attributes:
      cur_index: Position of ``cur_token``: a scalar, or one per row.
      sequences: (rows, length + 1) The beginning token and the tokens so far, followed by zeros.
      cur_token: (rows, 1) The last token.
      cache: Cache of the network for the tokens before the last one.
    """

    cur_index: Int[Array, "*rows"]
    sequences: Int[Array, "rows positions"]
    cur_token: Int[Array, "rows 1"]
    cache: Any


TokensToLogits = Callable[[DecodingState], tuple[Array, Any]]
"""From a state to the logits (rows, vocabulary) of the next token and the cache with the last one in it."""


def repeat_for_decodes(rows: Array, num_decodes: int, axis: int = 0) -> Array:
    """Repeats every row ``num_decodes`` times in place: (batch, …) to (batch · num_decodes, …)."""
    return jnp.repeat(rows, num_decodes, axis=axis)


def map_rows(fn: Callable[[Array], Array], cache: Any, offset: int) -> Any:
    """Applies ``fn`` to the leaves of ``cache`` that have an axis of rows.

    Args:
      fn: Function of an array.
      cache: A pytree.
      offset: Axis of the rows: 1 if layers are stacked on axis 0, otherwise 0. Leaves without this axis, such as an
        index for all rows, are unchanged, and so is a position bias.
    """

    def apply(path: tuple[Any, ...], leaf: Array) -> Array:
        name = jax.tree_util.keystr(path[-1:], simple=True)
        return fn(leaf) if leaf.ndim > offset and name != "cached_bias" else leaf

    return jax.tree_util.tree_map_with_path(apply, cache)


def repeat_cache(cache: Any, num_decodes: int, offset: int) -> Any:
    """Repeats every row of the cache ``num_decodes`` times in place."""
    return map_rows(lambda leaf: repeat_for_decodes(leaf, num_decodes, axis=offset), cache, offset)


def select_decodes(cache: Any, decodes: Int[Array, "batch decodes"], offset: int) -> Any:
    """Selects for every decode of an example the cache of one of its decodes, given by their indices ``decodes``."""
    batch, num_decodes = decodes.shape
    rows = (jnp.arange(batch)[:, None] * num_decodes + decodes).reshape(-1)
    return map_rows(lambda leaf: jnp.take(leaf, rows, axis=offset), cache, offset)


def drop_left(
    decodes: Int[Array, "batch decodes length"], counts: Int[Array, "batch _"]
) -> Int[Array, "batch decodes length"]:
    """Shifts every decode to the left by its count, (batch, decodes) or (batch, 1), and appends zeros."""
    length = decodes.shape[-1]
    source = jnp.broadcast_to(jnp.arange(length)[None, None, :] + counts[:, :, None], decodes.shape)
    moved = jnp.take_along_axis(decodes, jnp.minimum(source, length - 1), axis=-1)
    return jnp.where(source < length, moved, 0)


def decode_from_encoder(
    module: nn.Module,
    params: Any,
    batch: Mapping[str, Array],
    decode_fn: Callable[..., tuple[Array, Array]],
    options: Mapping[str, Any],
    num_decodes: int,
    prompt_with_targets: bool,
) -> tuple[Int[Array, "batch decodes length"], Float[Array, "batch decodes"]]:
    """Decodes with the network of an encoder-decoder; see ``EncoderDecoderModel.predict_batch_with_aux``.

    Args:
      module: Its ``__call__``, ``encode`` and ``decode`` are described in docs/engine.md.
      params: Its parameters.
      batch: ``encoder_input_tokens`` and ``decoder_input_tokens``.
      decode_fn: For example :func:`t5x.decoding.beam_search`.
      options: Other arguments of ``decode_fn``, including ``eos_id``.
      num_decodes: Beams or samples per example.
      prompt_with_targets: Whether decodes must begin with the tokens in ``decoder_input_tokens``.

    Returns:
      What ``decode_fn`` returns: ids and scores, the best last.
    """
    network: Any = module
    encoder_tokens, decoder_tokens = batch["encoder_input_tokens"], batch["decoder_input_tokens"]
    encoded: Any = network.apply({"params": params}, encoder_tokens, enable_dropout=False, method=network.encode)
    _, variables = network.apply(
        {"params": params},
        jnp.ones_like(encoder_tokens),
        jnp.ones_like(decoder_tokens),
        jnp.ones_like(decoder_tokens),
        decode=True,
        enable_dropout=False,
        mutable=["cache"],
    )
    cache = variables["cache"]
    prompts = jnp.zeros_like(decoder_tokens)
    if prompt_with_targets:
        # An end token in the prompt would end the decode immediately.
        prompts = jnp.where(decoder_tokens == options["eos_id"], 0, decoder_tokens)
    if "prefill" in inspect.signature(network.decode).parameters:
        prompt_ends = _last_token(prompts)
        options = {**options, "initial_index": prompt_ends}
        if prompt_with_targets:  # All tokens of the prompts except the last are written to the cache in one pass.
            _, filled = network.apply(
                {"params": params, "cache": cache},
                encoded,
                encoder_tokens,
                prompts,
                prompts,
                enable_dropout=False,
                prefill=True,
                prefill_lengths=prompt_ends,
                mutable=["cache"],
                method=network.decode,
            )
            cache = filled["cache"]
    encoded = repeat_for_decodes(encoded, num_decodes)
    encoder_tokens = repeat_for_decodes(encoder_tokens, num_decodes)

    def tokens_to_logits(state: DecodingState) -> tuple[Array, Any]:
        logits, changed = network.apply(
            {"params": params, "cache": state.cache},
            encoded,
            encoder_tokens,
            state.cur_token,
            state.cur_token,
            enable_dropout=False,
            decode=True,
            max_decode_length=decoder_tokens.shape[1],
            mutable=["cache"],
            method=network.decode,
        )
        return jnp.squeeze(logits, axis=1), changed["cache"]

    return _run(decode_fn, network, prompts, cache, tokens_to_logits, num_decodes, options)


def continue_prefix(
    module: nn.Module,
    params: Any,
    batch: Mapping[str, Array],
    decode_fn: Callable[..., tuple[Array, Array]],
    options: Mapping[str, Any],
    num_decodes: int,
    inputs_bidirectional_attention: bool,
) -> tuple[Int[Array, "batch decodes length"], Float[Array, "batch decodes"]]:
    """Continues every example's prefix with a language model; see ``DecoderOnlyModel.predict_batch_with_aux``.

    Args:
      module: Its ``__call__`` is described in docs/engine.md.
      params: Its parameters.
      batch: ``decoder_input_tokens`` and ``decoder_causal_attention``.
      decode_fn: For example :func:`t5x.decoding.temperature_sample`.
      options: Other arguments of ``decode_fn``, including ``eos_id``.
      num_decodes: Beams or samples per example.
      inputs_bidirectional_attention: Whether the tokens of the prefix attend to the whole prefix.

    Returns:
      What ``decode_fn`` returns, without the prefix: ids and scores, the best last.
    """
    network: Any = module
    tokens, prefix = batch["decoder_input_tokens"], batch["decoder_causal_attention"]
    prompts = tokens * prefix
    prefix_lengths = jnp.sum(prefix, axis=-1) - 1  # The beginning token is marked too, and does not count.
    _, empty = network.apply(
        {"params": params},
        jnp.ones_like(prompts),
        jnp.ones_like(prompts),
        enable_dropout=False,
        decode=True,
        mutable=["cache"],
    )
    _, filled = network.apply(
        {"params": params, "cache": empty["cache"]},
        prompts,
        jnp.ones_like(prompts),  # The beginning token has id 0, but is not padding.
        decoder_causal_attention=prefix if inputs_bidirectional_attention else None,
        enable_dropout=False,
        decode=False,
        prefill=True,
        prefill_lengths=prefix_lengths,
        mutable=["cache"],
    )

    def tokens_to_logits(state: DecodingState) -> tuple[Array, Any]:
        logits, changed = network.apply(
            {"params": params, "cache": state.cache},
            state.cur_token,
            state.cur_token,
            enable_dropout=False,
            decode=True,
            max_decode_length=tokens.shape[1],
            mutable=["cache"],
        )
        return jnp.squeeze(logits, axis=1), changed["cache"]

    options = {"initial_index": prefix_lengths, **options}
    decodes, scores = _run(decode_fn, network, prompts, filled["cache"], tokens_to_logits, num_decodes, options)
    return drop_left(decodes, prefix_lengths[:, None]), scores


def _run(
    decode_fn: Callable[..., tuple[Array, Array]],
    network: Any,
    prompts: Int[Array, "batch length"],
    cache: Any,
    tokens_to_logits: TokensToLogits,
    num_decodes: int,
    options: Mapping[str, Any],
) -> tuple[Array, Array]:
    offset = 1 if getattr(network, "scan_layers", False) else 0
    arguments = {"cache_offset": offset, "num_decodes": num_decodes, **options}
    return decode_fn(inputs=prompts, cache=cache, tokens_to_logits=tokens_to_logits, **arguments)


def _last_token(prompts: Int[Array, "batch length"]) -> Int[Array, " batch"]:
    """Returns the position of the last token of every row; 0 if there is only the beginning token."""
    return jnp.max(jnp.where(prompts != 0, jnp.arange(prompts.shape[1])[None, :], 0), axis=1)
