"""Decoding with a student in JAX: a batch of rows, in which the next inputs take the place of outputs that ended."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from fsa_jax.serving.prediction_record import Output
from fsa_jax.serving.search import BeamSearch, Found, Greedy, map_rows

IMPOSSIBLE = -1e9
"""Logit of an id that is not in the vocabulary."""
_SHORTEST = 32
_ROOM = 128
"""Length of inputs for which a batch has room at first; with longer inputs, it is compiled again."""
_REFILLS = 8
"""Share of the rows, 1/8, whose outputs must end before the next inputs take their place."""
_SMALLER = 4
"""A batch becomes smaller by this factor, when no more inputs wait and few of its outputs are left."""
_WORTH = 64
"""Tokens that the longest output may still get, so that this is worth compiling the smaller batch."""
_NONE = -1


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


@flax.struct.dataclass
class _Batch:
    """Rows that are decoded together: their inputs, padded, and the state of their search."""

    inputs: Int[Array, "batch length"]
    search: Any


class Generator:
    """Decodes with one network and one set of parameters.

    A batch has a fixed number of rows. Whenever an eighth of its outputs have ended, the next inputs take their rows.
    So few shapes are compiled, and rows do not wait for the longest output of a batch.

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
        self._length = decoding.max_length
        offset = int(module.scan_layers)
        read, step = (_read_prompts, _step_prompts) if decoder_only else (_encode, _step_encoded)
        restrict = partial(_restrict, end_ids=self._end_ids, rows=rows)
        self._start = partial(_start, partial(read, module), decoding, offset)
        self._fill = jax.jit(partial(_fill, self._start, offset), donate_argnums=1)
        continued = partial(_continue, partial(step, module, restrict), self._end_ids[0])
        self._continue = jax.jit(continued, donate_argnums=1)
        self._smaller = jax.jit(partial(_smaller, offset))
        self._offset = offset

    def __call__(self, batch: Sequence[Sequence[int]], *, batch_size: int | None = None) -> list[Output]:
        """The outputs of inputs, in their order; see ``stream``. By default, all are decoded together."""
        found = {i: output for some in self.stream(batch, batch_size or len(batch)) for i, output in some}
        return [found[i] for i in range(len(batch))]

    def stream(self, inputs: Sequence[Sequence[int]], batch_size: int) -> Iterator[list[tuple[int, Output]]]:
        """The outputs, with the places of their inputs, as they end.

        Args:
          inputs: token ids of the inputs. If short ones come first, less is computed for padding.
          batch_size: greatest number of rows that are decoded together.

        Yields:
          For some inputs, the place and the output: the ids (including the end token, if reached), the score, and the
          log-probabilities of the ids. The score is the log-probability of the output, divided by the length penalty if
          there are several beams.
        """
        size = batch_size
        while max(1, len(inputs)) <= size // _SMALLER:
            size //= _SMALLER
        some = max(1, size // _REFILLS)
        places = np.full(size, _NONE)  # The place in ``inputs`` of each row.
        taken, batch, left = 0, None, size // _SMALLER
        while taken < len(inputs) or (places != _NONE).any():
            free = np.flatnonzero(places == _NONE)
            while taken < len(inputs) and len(free) >= some:
                chosen = range(taken, min(taken + some, len(inputs)))
                rows, free, taken = free[: len(chosen)], free[some:], chosen.stop
                batch = self._filled(batch, size, inputs[chosen.start : chosen.stop], rows, some)
                places[rows] = chosen
            batch, found = self._continue(self._parameters, batch, size - some if taken < len(inputs) else left)
            settled = np.asarray(batch.search.settled)
            ended = np.flatnonzero(settled & (places != _NONE))
            if len(ended):
                outputs = map(self._output, *(np.asarray(array)[ended].tolist() for array in found))
                yield list(zip(places[ended].tolist(), outputs, strict=True))
                places[ended] = _NONE
            if taken == len(inputs) and (places != _NONE).sum() <= left:
                going_on = places != _NONE
                shortest = np.asarray(batch.search.position)[going_on].min(initial=self._length)
                if self._length - shortest < _WORTH:
                    left = 0
                else:
                    kept = np.argsort(~going_on, kind="stable")[: size // _SMALLER]
                    batch, places, size = self._smaller(batch, kept), places[kept], len(kept)
                    left = size // _SMALLER

    def _filled(self, batch: Any, size: int, inputs: Sequence[Sequence[int]], rows: np.ndarray, some: int) -> _Batch:
        """The batch of ``size`` rows with ``inputs`` in ``rows``."""
        length = padded_length(max(map(len, inputs)))
        ids, mask = np.zeros((some, length), np.int32), np.zeros((some, length), np.int32)
        for i, row in enumerate(inputs):
            where = slice(length - len(row), length) if self._decoder_only else slice(0, len(row))
            ids[i, where], mask[i, where] = row, 1
        if batch is None:
            batch = self._empty(ids, mask, size)
        batch = self._longer(batch, max(_ROOM, length) - batch.inputs.shape[1])
        # Rows that are missing are written to a row after the last, which is nowhere.
        rows = np.concatenate([rows, np.full(some - len(rows), size)])
        return self._fill(self._parameters, batch, ids, mask, rows)

    def _empty(self, ids: np.ndarray, mask: np.ndarray, size: int) -> _Batch:
        """A batch without outputs to find, with room for inputs of the length of ``ids``."""
        shapes = jax.eval_shape(self._start, self._parameters, ids, mask)

        def zeros(leaf: Any, axis: int) -> Array:
            rows = leaf.shape[axis] // len(ids) * size
            return jnp.zeros((*leaf.shape[:axis], rows, *leaf.shape[axis + 1 :]), leaf.dtype)

        search = _map_search(zeros, shapes, self._offset)
        search = _with_room(search, "cached_", self._length - 1).replace(settled=jnp.ones((size,), bool))
        return _Batch(jnp.zeros((size, ids.shape[1]), jnp.int32), search)

    def _longer(self, batch: _Batch, more: int) -> _Batch:
        """The batch with room for inputs that are longer by ``more`` tokens, if that is positive."""
        if more <= 0:
            return batch
        search = _with_room(batch.search, "cached_" if self._decoder_only else "context_", more)
        return _Batch(jnp.pad(batch.inputs, ((0, 0), (0, more))), search)

    def _output(self, ids: list[int], score: float, log_probs: list[float]) -> Output:
        end = self._end_ids[0]
        ids = ids[: ids.index(end) + 1] if end in ids else ids
        return Output(ids, score, log_probs[: len(ids)])


def _restrict(logits: Float[Array, "rows vocab"], *, end_ids: tuple[int, ...], rows: int) -> Float[Array, "rows vocab"]:
    """Logits without padding ids, and with all end tokens merged into one, because the searches know only one end."""
    ids = jnp.arange(logits.shape[-1])
    logits = jnp.where((ids < rows)[None, :], logits, IMPOSSIBLE)
    if len(end_ids) > 1:
        ends = jnp.max(logits[:, jnp.asarray(end_ids)], axis=-1, keepdims=True)
        others = jnp.isin(ids, jnp.asarray(end_ids[1:]))
        logits = jnp.where((ids == end_ids[0])[None, :], ends, jnp.where(others[None, :], IMPOSSIBLE, logits))
    return logits


def _start(
    read: Callable[..., tuple[Array, Any]],
    decoding: Decoding,
    offset: int,
    parameters: Any,
    inputs: Int[Array, "batch length"],
    mask: Int[Array, "batch length"],
) -> Greedy | BeamSearch:
    """Reads inputs, and returns a search for their outputs."""
    tokens, cache = read(parameters, inputs, mask)
    if decoding.beams == 1:
        return Greedy.start(tokens, cache, decoding.max_length)
    return BeamSearch.start(
        tokens,
        cache,
        decoding.max_length,
        beams=decoding.beams,
        length_penalty=decoding.length_penalty,
        offset=offset,
    )


def _fill(
    start: Callable[..., Any],
    offset: int,
    parameters: Any,
    batch: _Batch,
    inputs: Int[Array, "some length"],
    mask: Int[Array, "some length"],
    rows: Int[Array, " some"],
) -> _Batch:
    """The batch with new inputs in ``rows``."""

    def put(old: Array, new: Array, axis: int) -> Array:
        place = (*(slice(None),) * axis, _each(rows, old.shape[axis] // batch.inputs.shape[0]))
        # Attention masks what remains of an earlier, longer input.
        rest = () if old.ndim == axis + 1 else (..., slice(new.shape[-1]))
        return old.at[(*place, *rest)].set(new, mode="drop")

    found = start(parameters, inputs, mask)
    ids = jnp.pad(inputs, ((0, 0), (0, batch.inputs.shape[1] - inputs.shape[1])))
    return _Batch(put(batch.inputs, ids, 0), _map_search(put, batch.search, offset, found))


def _continue(
    step: Callable, end_id: int, parameters: Any, batch: _Batch, enough: Int[Array, ""]
) -> tuple[_Batch, Found]:
    """Continues until at most ``enough`` outputs have not ended; also returns what was found so far."""

    def going_on(search: Any) -> Bool[Array, ""]:
        return jnp.sum(~search.settled) > enough

    def advance(search: Any) -> Any:
        return search.advance(partial(step, parameters, batch.inputs), end_id)

    search = jax.lax.while_loop(going_on, advance, batch.search)
    return _Batch(batch.inputs, search), search.found()


def _smaller(offset: int, batch: _Batch, kept: Int[Array, " kept"]) -> _Batch:
    """The ``kept`` rows of a batch."""

    def take(leaf: Array, axis: int) -> Array:
        return jnp.take(leaf, _each(kept, leaf.shape[axis] // batch.inputs.shape[0]), axis=axis)

    return _Batch(take(batch.inputs, 0), _map_search(take, batch.search, offset))


def _each(examples: Int[Array, " examples"], count: int) -> Int[Array, " rows"]:
    """The rows of examples that have ``count`` adjacent rows each."""
    return (examples[:, None] * count + jnp.arange(count)[None, :]).reshape(-1)


def _map_search(change: Callable[..., Array], search: Any, offset: int, *others: Any) -> Any:
    """Applies ``change`` to the arrays of searches, and gives it the axis of their rows as its last argument."""
    caches = [other.cache for other in (search, *others)]
    cache = map_rows(lambda *leaves: change(*leaves, offset), *caches, offset=offset)
    plain = [other.replace(cache=None) for other in (search, *others)]
    return jax.tree.map(lambda *leaves: change(*leaves, 0), *plain).replace(cache=cache)


def _named(path: tuple[Any, ...], *names: str) -> bool:
    return jax.tree_util.keystr(path[-1:], simple=True) in names


def _with_room(search: Any, kind: str, more: int) -> Any:
    """The search with longer arrays of a ``kind`` in its cache: those whose names begin so."""

    def longer(path: tuple[Any, ...], leaf: Array) -> Array:
        if not _named(path, f"{kind}key", f"{kind}value"):
            return leaf
        return jnp.pad(leaf, ((0, 0),) * (leaf.ndim - 1) + ((0, more),))

    return search.replace(cache=jax.tree_util.tree_map_with_path(longer, search.cache))


def _encode(
    module: Any, parameters: Any, inputs: Int[Array, "batch length"], mask: Int[Array, "batch length"]
) -> tuple[Int[Array, "batch 1"], Any]:
    """The beginning token of each row, and a cache with a place for it and the encoder's output for attention."""
    del mask  # Padding is id 0.
    variables = {"params": parameters}
    encoded = module.apply(variables, inputs, enable_dropout=False, method=module.encode)
    tokens = jnp.zeros_like(inputs[:, :1])
    _, filled = module.apply(
        variables,
        encoded,
        inputs,
        tokens,
        tokens,
        enable_dropout=False,
        prefill=True,
        prefill_lengths=tokens[:, 0],
        mutable=["cache"],
        method=module.decode,
    )
    return tokens, filled["cache"]


def _step_encoded(
    module: Any, restrict: Callable, parameters: Any, inputs: Int[Array, "batch length"], last: Array, cache: Any
) -> tuple[Array, Any]:
    keys = (leaf for path, leaf in jax.tree_util.tree_leaves_with_path(cache) if _named(path, "cached_key"))
    logits, changed = module.apply(
        {"params": parameters, "cache": cache},
        None,  # What attention needs of the encoder's output is in the cache.
        inputs,
        last,
        last,
        enable_dropout=False,
        decode=True,
        max_decode_length=next(keys).shape[-1],
        mutable=["cache"],
        method=module.decode,
    )
    return restrict(jnp.squeeze(logits, axis=1)), changed["cache"]


def _read_prompts(
    module: Any, parameters: Any, inputs: Int[Array, "batch length"], mask: Int[Array, "batch length"]
) -> tuple[Int[Array, "batch 1"], Any]:
    """The last token of each prompt, and a cache with the others.

    Prompts are padded on the left, so that all prompts end, and all answers start, in the same column.
    """
    # The first decoding step processes the last token of the prompt; its logits choose the first token of the answer.
    _, filled = module.apply(
        {"params": parameters},
        inputs,
        decoder_segment_ids=mask,
        enable_dropout=False,
        prefill=True,
        prefill_lengths=jnp.full((inputs.shape[0],), inputs.shape[1] - 1),
        mutable=["cache"],
    )
    return inputs[:, -1:], filled["cache"]


def _step_prompts(
    module: Any, restrict: Callable, parameters: Any, inputs: Int[Array, "batch length"], last: Array, cache: Any
) -> tuple[Array, Any]:
    del inputs  # They are in the cache.
    logits, changed = module.apply(
        {"params": parameters, "cache": cache}, last, enable_dropout=False, decode=True, mutable=["cache"]
    )
    return restrict(jnp.squeeze(logits, axis=1)), changed["cache"]
