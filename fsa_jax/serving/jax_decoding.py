"""Decoding with a student in JAX: a batch of rows, in which the next inputs take the place of outputs that ended."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from fsa_base.networks.layers import most_likely
from fsa_jax.serving.prediction_record import Output

Step = Callable[[Int[Array, "rows 1"], Any], tuple[Float[Array, "rows vocab"], Any]]
"""A decoding step: takes the last tokens and the cache; returns the logits of the next tokens and the updated cache."""

Found = tuple[Int[Array, "batch length"], Float[Array, " batch"], Float[Array, "batch length"]]
"""Result of a search: ids, with zeros after the end; scores; and the log-probability of each id."""

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
_OF_CONTEXT = "context_"
"""Beginning of the names of what a cache has once for all beams of an example."""


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


def map_rows(change: Callable[..., Array], *caches: Any, offset: int, context: bool = True) -> Any:
    """Applies ``change`` to the leaves of caches that have rows; others, such as an index of all rows, stay.

    Args:
      change: function of a leaf of each cache.
      *caches: caches of a network.
      offset: axis of the rows; 1 if layers are stacked on axis 0.
      context: whether to apply it also to what a cache has once for all beams of an example.
    """

    def apply(path: tuple[Any, ...], leaf: Array, *others: Array) -> Array:
        shared = jax.tree_util.keystr(path[-1:], simple=True).startswith(_OF_CONTEXT)
        return change(leaf, *others) if leaf.ndim > offset and (context or not shared) else leaf

    return jax.tree_util.tree_map_with_path(apply, *caches)


@flax.struct.dataclass
class Greedy:
    """Greedy decoding: each token is the most likely one, up to the end token or the greatest length.

    Attributes:
      position: number of tokens so far, of each row.
      tokens: last token of each row.
      cache: cache of the network.
      settled: whether an output has ended.
      ids: outputs so far, with zeros after the end.
      log_probs: log-probabilities of ``ids``.
    """

    position: Int[Array, " batch"]
    tokens: Int[Array, "batch 1"]
    cache: Any
    settled: Bool[Array, " batch"]
    ids: Int[Array, "batch length"]
    log_probs: Float[Array, "batch length"]

    @classmethod
    def start(cls, tokens: Int[Array, "batch 1"], cache: Any, length: int) -> Greedy:
        """The state before the first token.

        Args:
          tokens: token before the outputs.
          cache: cache of the network.
          length: longest output in tokens.
        """
        none = jnp.zeros((tokens.shape[0], length), jnp.int32)
        return cls(none[:, 0], tokens, cache, none[:, 0] > 0, none, none.astype(jnp.float32))

    def advance(self, step: Step, end_id: int) -> Greedy:
        """The state after one more token."""
        logits, cache = step(self.tokens, self.cache)
        chosen, log_probs = most_likely(logits)
        length = self.ids.shape[1]
        here = (jnp.arange(length)[None, :] == self.position[:, None]) & ~self.settled[:, None]
        position = self.position + ~self.settled
        return Greedy(
            position=position,
            tokens=chosen,
            cache=cache,
            settled=self.settled | (chosen[:, 0] == end_id) | (position == length),
            ids=jnp.where(here, chosen, self.ids),
            log_probs=jnp.where(here, log_probs, self.log_probs),
        )

    def found(self) -> Found:
        """The outputs so far, and their log-probabilities as scores."""
        return self.ids, jnp.sum(self.log_probs, axis=1), self.log_probs


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
      parameters: parameters of the network.
      read: reads padded inputs ``(variables, inputs, mask)``; returns the token before each output, and a cache.
        Variables are the collections of the network: the parameters and, after ``read_prefix``, the prefix.
      step: takes a step ``(variables, inputs, last tokens, cache)``; returns logits, and the updated cache.
      search: begins a search ``(tokens, cache)`` with what ``read`` returned.
      offset: axis of the rows in the cache; 1 if layers are stacked on axis 0.
      decoder_only: whether inputs are padded on the left, and are part of the cache.
      end_ids: ids that end an output; outputs always show the first of them.
      rows: number of real ids; this and higher ids are padding of the embedding and are never chosen.
      length: longest output in tokens.
      prefix: ids with which inputs begin. It is read once for all that do, and that go on after it.
      read_prefix: reads it ``(variables, ids of one row)``; returns the collection ``prefix`` of the network.
    """

    def __init__(
        self,
        parameters: Any,
        *,
        read: Callable[..., tuple[Array, Any]],
        step: Callable[..., tuple[Array, Any]],
        search: Callable[[Array, Any], Any],
        offset: int,
        decoder_only: bool,
        end_ids: Sequence[int],
        rows: int,
        length: int,
        prefix: Sequence[int],
        read_prefix: Callable[..., Any],
    ) -> None:
        self._variables = {"params": jax.device_put(parameters)}
        self._prefix = list(prefix)
        self._read_prefix = read_prefix
        self._decoder_only = decoder_only
        self._end_ids = tuple(end_ids)
        self._length = length
        restrict = partial(_restrict, end_ids=self._end_ids, rows=rows)
        self._start = partial(_start, read, search)
        self._fill = jax.jit(partial(_fill, self._start, offset), donate_argnums=1)
        continued = partial(_continue, step, restrict, self._end_ids[0])
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
        length = len(self._prefix)
        begins = [0 < length < len(row) and list(row[:length]) == self._prefix for row in inputs]
        for with_prefix in (True, False):
            places = [i for i, found in enumerate(begins) if found == with_prefix]
            if not places:
                continue
            variables, cut = (self._with_prefix, length) if with_prefix else (self._variables, 0)
            for ended in self._decode(variables, [inputs[i][cut:] for i in places], batch_size):
                yield [(places[i], output) for i, output in ended]

    def _decode(
        self, variables: Any, inputs: Sequence[Sequence[int]], batch_size: int
    ) -> Iterator[list[tuple[int, Output]]]:
        """As ``stream``, with one set of variables for all inputs."""
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
                batch = self._filled(variables, batch, size, inputs[chosen.start : chosen.stop], rows, some)
                places[rows] = chosen
            batch, found = self._continue(variables, batch, size - some if taken < len(inputs) else left)
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

    @property
    def prefix_is_read(self) -> bool:
        """Whether a call could use the prefix so far."""
        return "_with_prefix" in vars(self)

    @functools.cached_property
    def _with_prefix(self) -> dict[str, Any]:
        read = jax.jit(self._read_prefix)
        return {**self._variables, "prefix": read(self._variables, np.asarray([self._prefix], np.int32))}

    def _filled(
        self, variables: Any, batch: Any, size: int, inputs: Sequence[Sequence[int]], rows: np.ndarray, some: int
    ) -> _Batch:
        """The batch of ``size`` rows with ``inputs`` in ``rows``."""
        length = padded_length(max(map(len, inputs)))
        ids, mask = np.zeros((some, length), np.int32), np.zeros((some, length), np.int32)
        for i, row in enumerate(inputs):
            where = slice(length - len(row), length) if self._decoder_only else slice(0, len(row))
            ids[i, where], mask[i, where] = row, 1
        if batch is None:
            batch = self._empty(variables, ids, mask, size)
        batch = self._longer(batch, max(_ROOM, length) - batch.inputs.shape[1])
        # Rows that are missing are written to a row after the last, which is nowhere.
        rows = np.concatenate([rows, np.full(some - len(rows), size)])
        return self._fill(variables, batch, ids, mask, rows)

    def _empty(self, variables: Any, ids: np.ndarray, mask: np.ndarray, size: int) -> _Batch:
        """A batch without outputs to find, with room for inputs of the length of ``ids``."""
        shapes = jax.eval_shape(self._start, variables, ids, mask)

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
    search: Callable[[Array, Any], Any],
    variables: Any,
    inputs: Int[Array, "batch length"],
    mask: Int[Array, "batch length"],
) -> Any:
    """Reads inputs, and returns a search for their outputs."""
    return search(*read(variables, inputs, mask))


def _fill(
    start: Callable[..., Any],
    offset: int,
    variables: Any,
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

    found = start(variables, inputs, mask)
    ids = jnp.pad(inputs, ((0, 0), (0, batch.inputs.shape[1] - inputs.shape[1])))
    return _Batch(put(batch.inputs, ids, 0), _map_search(put, batch.search, offset, found))


def _continue(
    step: Callable, restrict: Callable, end_id: int, variables: Any, batch: _Batch, enough: Int[Array, ""]
) -> tuple[_Batch, Found]:
    """Continues until at most ``enough`` outputs have not ended; also returns what was found so far."""

    def going_on(search: Any) -> Bool[Array, ""]:
        return jnp.sum(~search.settled) > enough

    def restricted(last: Array, cache: Any) -> tuple[Array, Any]:
        logits, cache = step(variables, batch.inputs, last, cache)
        return restrict(logits), cache

    def advance(search: Any) -> Any:
        return search.advance(restricted, end_id)

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
