"""Log-probabilities that a student gives to texts after an input, and its most likely continuation of a text.

The texts are forced on the student (teacher forcing), so nothing is sampled. Inputs of similar length are computed
together, and the encoder of a T5 reads each of them once. Texts that differ only at their ends are scored there alone:
the logits of the other tokens are never computed.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from fsa_jax.serving.jax_decoding import IMPOSSIBLE, padded_length
from fsa_jax.serving.student import Student

_INPUTS = 16
"""Inputs whose encoder outputs are in memory together."""
_ROWS = 64
_FEWEST_SCORED = 4
_STEP = 16
_LONGEST_IN_STEPS = 128
_MOST_LOGITS = 2**25
"""Largest number of logits of a batch: 128 MB in float32."""


class Continuation(NamedTuple):
    """A text that may follow an input.

    Attributes:
      input: place of the input among the inputs of the call.
      ids: token ids of the text, with or without the end token.
      start: number of ids at the beginning that are given and not scored.
    """

    input: int
    ids: tuple[int, ...]
    start: int = 0


@dataclass(frozen=True)
class _Context:
    """What the rows of a batch follow: for a T5 the padded inputs and the encoder's output, otherwise nothing."""

    inputs: Any = None
    encoded: Any = None


class ContinuationScorer:
    """Scores continuations with one student; T5 and decoder-only students.

    Args:
      student: the student.
    """

    def __init__(self, student: Student) -> None:
        self._variables = {"params": jax.device_put(student.parameters)}
        self._module = student.module
        self._decoder_only = student.tokens.decoder_only
        self._rows = student.rows
        self._encode = jax.jit(self._encoded)
        self._score = jax.jit(self._scores)
        self._next = jax.jit(self._most_likely)

    def log_probs(
        self, inputs: Sequence[Sequence[int]], continuations: Sequence[Continuation]
    ) -> Float[np.ndarray, " continuations"]:
        """The log-probability of each continuation after its input, in nats: the sum over its scored tokens.

        A result does not depend on the other continuations, except for rounding.

        Args:
          inputs: token ids of the inputs, as ``Tokenizer.encode_input`` gives them.
          continuations: the texts to score. An empty one, or one without a scored token, has log-probability 0.
        """
        found = np.zeros(len(continuations), np.float64)
        scored = [place for place, text in enumerate(continuations) if len(text.ids) > text.start]
        for context, places, owners in self._groups(inputs, [continuations[place].input for place in scored]):
            chosen = [(scored[place], owner) for place, owner in zip(places, owners, strict=True)]
            # Long texts and those with many scored tokens are computed together, so that the others need less padding.
            chosen.sort(key=lambda one: self._order(inputs, continuations[one[0]]))
            while chosen:
                rows = self._row_count([self._order(inputs, continuations[place])[0] for place, _ in chosen[:_ROWS]])
                batch, chosen = chosen[:rows], chosen[rows:]
                texts = [continuations[place] for place, _ in batch]
                heads = [self._head(inputs[text.input]) for text in texts]
                length = _padded_row(max(len(head) + len(text.ids) for head, text in zip(heads, texts, strict=True)))
                count = _padded_count(max(len(text.ids) - text.start for text in texts))
                ids, owner = np.zeros((rows, length), np.int32), np.zeros(rows, np.int32)
                first, scored_ids = np.zeros(rows, np.int32), np.zeros(rows, np.int32)
                for row, (head, text) in enumerate(zip(heads, texts, strict=True)):
                    whole = [*head, *text.ids]
                    ids[row, : len(whole)], owner[row] = whole, batch[row][1]
                    first[row], scored_ids[row] = len(head) + text.start, len(text.ids) - text.start
                sums = self._score(
                    self._variables, context.inputs, context.encoded, owner, ids, first, scored_ids, np.zeros(count)
                )
                found[[place for place, _ in batch]] = np.asarray(sums)[: len(batch)]
        return found

    def complete(
        self, inputs: Sequence[Sequence[int]], beginnings: Sequence[Continuation], stops: Sequence[int], most: int
    ) -> list[tuple[int, ...]]:
        """The most likely ids (greedy) after each beginning, without the beginning and without the stop.

        Args:
          inputs: token ids of the inputs.
          beginnings: texts to continue; ``start`` is ignored.
          stops: ids that end a continuation.
          most: largest number of ids to add.
        """
        found: list[tuple[int, ...]] = [()] * len(beginnings)
        for context, places, owners in self._groups(inputs, [text.input for text in beginnings]):
            for begin in range(0, len(places), _ROWS):
                batch = places[begin : begin + _ROWS]
                whole = [[*self._head(inputs[beginnings[i].input]), *beginnings[i].ids] for i in batch]
                length = _padded_row(max(map(len, whole)) + most)
                ids, owner, lengths = np.zeros((_ROWS, length), np.int32), np.zeros(_ROWS, np.int32), [1] * _ROWS
                for row, text in enumerate(whole):
                    ids[row, : len(text)], owner[row], lengths[row] = text, owners[begin + row], len(text)
                given = np.array(lengths, np.int32)
                stop, limit = np.asarray(stops, np.int32), np.int32(most)
                made = self._next(self._variables, context.inputs, context.encoded, owner, ids, given, stop, limit)
                for row, i in enumerate(batch):
                    new = np.asarray(made)[row, given[row] : given[row] + most].tolist()
                    ends = [place for place, token in enumerate(new) if token in stops]
                    found[i] = tuple(new[: ends[0]] if ends else new)
        return found

    def _groups(
        self, inputs: Sequence[Sequence[int]], of_texts: Sequence[int]
    ) -> Iterator[tuple[_Context, list[int], list[int]]]:
        """Groups of inputs with the places of their texts and, for each text, the row of its input in the context."""
        texts: dict[int, list[int]] = {}
        for place, input in enumerate(of_texts):
            texts.setdefault(input, []).append(place)
        order = sorted(texts, key=lambda input: len(inputs[input]))
        for begin in range(0, len(order), _INPUTS):
            group = order[begin : begin + _INPUTS]
            places = [place for input in group for place in texts[input]]
            owners = [row for row, input in enumerate(group) for _ in texts[input]]
            if self._decoder_only:
                yield _Context(), places, owners
                continue
            ids = np.zeros((_INPUTS, padded_length(max(len(inputs[input]) for input in group))), np.int32)
            for row, input in enumerate(group):
                ids[row, : len(inputs[input])] = inputs[input]
            yield _Context(ids, self._encode(self._variables, ids)), places, owners

    def _head(self, input: Sequence[int]) -> Sequence[int]:
        """The ids before a text in the decoder: its prompt, or T5's start token."""
        return input if self._decoder_only else (0,)

    def _order(self, inputs: Sequence[Sequence[int]], text: Continuation) -> tuple[int, int]:
        length = _padded_row(len(self._head(inputs[text.input])) + len(text.ids))
        return _padded_count(len(text.ids) - text.start), length

    def _row_count(self, counts: Sequence[int]) -> int:
        """Rows of a batch whose logits fit into memory; powers of two, so that few shapes are compiled."""
        rows = _ROWS
        while rows > 1 and rows * max(counts) * self._rows > _MOST_LOGITS:
            rows //= 2
        return rows

    def _encoded(self, variables: Any, inputs: Int[Array, "inputs length"]) -> Any:
        return self._module.apply(variables, inputs, enable_dropout=False, method=self._module.encode)

    def _logits(
        self,
        variables: Any,
        inputs: Int[Array, "inputs length"] | None,
        encoded: Float[Array, "inputs length embed"] | None,
        owner: Int[Array, " rows"],
        ids: Int[Array, "rows tokens"],
        places: Int[Array, "rows scored"],
    ) -> Float[Array, "rows scored vocab"]:
        """Logits of the tokens at ``places`` of the rows, given all tokens before them; ids that are padding are
        impossible."""

        def head(x: Array, kernel: Array) -> Array:
            # A place beyond the row is padding, whose result is not used.
            chosen = jnp.clip(places - 1, 0, ids.shape[1] - 1)
            return jnp.dot(jnp.take_along_axis(x, chosen[:, :, None], axis=1), kernel)

        if self._decoder_only:
            logits = self._module.apply(variables, ids, enable_dropout=False, head=head)
        else:
            assert inputs is not None and encoded is not None
            # All positions count as targets: padding is on the right, where attention is causal.
            logits = self._module.apply(
                variables,
                encoded[owner],
                inputs[owner],
                ids,
                jnp.ones_like(ids),
                enable_dropout=False,
                head=head,
                method=self._module.decode,
            )
        real = jnp.arange(logits.shape[-1]) < self._rows
        return jnp.where(real[None, None, :], logits.astype(jnp.float32), IMPOSSIBLE)

    def _scores(
        self,
        variables: Any,
        inputs: Any,
        encoded: Any,
        owner: Int[Array, " rows"],
        ids: Int[Array, "rows tokens"],
        first: Int[Array, " rows"],
        count: Int[Array, " rows"],
        width: Float[Array, " scored"],
    ) -> Float[Array, " rows"]:
        """Sums of the log-probabilities of the ``count`` tokens from ``first`` on; the shape of ``width`` is the
        largest count."""
        steps = jnp.arange(width.shape[0])
        places = first[:, None] + steps[None, :]
        log_probs = jax.nn.log_softmax(self._logits(variables, inputs, encoded, owner, ids, places), axis=-1)
        targets = jnp.take_along_axis(ids, jnp.minimum(places, ids.shape[1] - 1), axis=1)
        chosen = jnp.take_along_axis(log_probs, targets[:, :, None], axis=-1)[..., 0]
        return jnp.sum(jnp.where(steps[None, :] < count[:, None], chosen, 0.0), axis=1)

    def _most_likely(
        self,
        variables: Any,
        inputs: Any,
        encoded: Any,
        owner: Int[Array, " rows"],
        ids: Int[Array, "rows tokens"],
        given: Int[Array, " rows"],
        stops: Int[Array, " stops"],
        most: Int[Array, ""],
    ) -> Int[Array, "rows tokens"]:
        """The rows with the most likely tokens after the ``given`` ones."""

        def going_on(state: Any) -> Any:
            step, _, ended = state
            return (step < most) & ~jnp.all(ended)

        def advance(state: Any) -> Any:
            step, ids, ended = state
            place = (given + step)[:, None]
            token = jnp.argmax(self._logits(variables, inputs, encoded, owner, ids, place)[:, 0], axis=-1)
            ids = jnp.where(jnp.arange(ids.shape[1])[None, :] == place, token[:, None].astype(ids.dtype), ids)
            return step + 1, ids, ended | jnp.isin(token, stops)

        return jax.lax.while_loop(going_on, advance, (jnp.int32(0), ids, jnp.zeros(given.shape, bool)))[1]


def _padded_row(length: int) -> int:
    """The padded length of a row: a multiple of 16 for short rows, such as those of a T5's decoder, else a power of
    two."""
    return -(-length // _STEP) * _STEP if length <= _LONGEST_IN_STEPS else padded_length(length)


def _padded_count(count: int) -> int:
    """The padded number of scored tokens: a power of two, so that few shapes are compiled."""
    padded = _FEWEST_SCORED
    while padded < count:
        padded *= 2
    return padded
