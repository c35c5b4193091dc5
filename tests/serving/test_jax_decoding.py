"""Rows of a batch are used again when their outputs have ended; the outputs are those of each input alone."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from fsa_base.networks.t5.network import Transformer
from fsa_jax.serving import jax_decoding
from fsa_jax.serving.export_check import right_padded
from fsa_jax.serving.jax_decoding import Decoding, Generator
from fsa_jax.serving.student import Student, load_student

REVIEWS = Path(__file__).parents[2] / "fsa_jax" / "serving" / "check_sentences.txt"
END = 1
NO_TEXT, LONG = 0, 1
"""Places, in ``alone``, of an input without text and of one that needs more room than a batch has at first."""


@functools.partial(jax.jit, static_argnums=0)
def logits(module: Any, parameters: Any, ids: Any, before: Any) -> jax.Array:
    return module.apply({"params": parameters}, ids, before, jnp.ones_like(before), enable_dropout=False)


def without_cache(student: Student, inputs: list[list[int]], length: int) -> tuple[list[list[int]], list[list[float]]]:
    """Greedy outputs, and their log-probabilities, from whole forward passes for every token."""
    assert isinstance(student.module, Transformer)
    ids, targets = right_padded(inputs), np.zeros((len(inputs), length + 1), np.int32)
    log_probs = np.zeros((len(inputs), length))
    for position in range(length):
        scored = logits(student.module, student.parameters, ids, targets[:, :-1])
        now = np.asarray(jax.nn.log_softmax(scored[:, position, : student.rows]))
        targets[:, position + 1] = now.argmax(axis=-1)
        log_probs[:, position] = now.max(axis=-1)
    cut = [row[: row.index(END) + 1] if END in row else row for row in targets[:, 1:].tolist()]
    return cut, [row[: len(ids)] for ids, row in zip(cut, log_probs.tolist(), strict=True)]


def ending(student: Student, inputs: list[list[int]], length: int, wanted: Callable[[list[int]], bool]) -> Student:
    """The student with larger or smaller logits of the end token, so that ``wanted`` is true for the outputs' lengths.

    An output without an end has the length ``length + 1``.
    """
    for factor in (1.0, 0.8, 1.25, 0.6, 1.5, 0.4, 2.0, 0.2, 3.0, 0.0, 5.0, -1.0, -3.0):
        parameters = jax.tree.map(np.array, student.parameters)
        parameters["decoder"]["logits_dense"]["kernel"][:, END] *= factor
        changed = dataclasses.replace(student, parameters=parameters)
        if wanted([len(row) if END in row else length + 1 for row in without_cache(changed, inputs, length)[0]]):
            return changed
    raise AssertionError("no factor gives such lengths")


@pytest.mark.parametrize(("length", "batch_size"), [(6, 8), (30, 1), (30, 16), (30, 24)])
def test_outputs_that_end_at_once_later_and_never(pairs_checkpoint, vocabulary, length, batch_size):
    student = load_student(pairs_checkpoint, vocabulary=vocabulary)
    inputs = [student.tokens.encode_input(text, 40)[0] for text in REVIEWS.read_text("utf-8").splitlines()[:60]]
    lengths = 2 if length == 6 else 3  # Answers have more than 6 tokens, unless they are empty.
    student = ending(
        student, inputs, length, lambda ends: min(ends) <= 2 and max(ends) > length and len(set(ends)) >= lengths
    )
    expected, log_probs = without_cache(student, inputs, length)
    found = student.generator(Decoding(length))(inputs, batch_size=batch_size)
    assert [output.ids for output in found] == expected
    for output, those in zip(found, log_probs, strict=True):
        np.testing.assert_allclose(output.log_probs, those, atol=1e-4)
        np.testing.assert_allclose(output.score, sum(those), atol=1e-3)


@pytest.fixture(scope="module")
def alone(pairs_checkpoint, vocabulary) -> tuple[Generator, list[list[int]], list[list[int]]]:
    """A generator, inputs, and the greedy output of each; some end at once, some later, some never."""
    student = load_student(pairs_checkpoint, vocabulary=vocabulary)
    texts = REVIEWS.read_text("utf-8").splitlines()[:24]
    inputs = [[END], *(student.tokens.encode_input(text, 32)[0] for text in texts)]
    inputs.insert(LONG, inputs[1] * 10)
    student = ending(student, inputs, 30, lambda ends: min(ends) <= 2 and max(ends) > 30 and len(set(ends)) >= 3)
    return student.generator(Decoding(30)), inputs, without_cache(student, inputs, 30)[0]


@settings(max_examples=40, deadline=None)
@given(chosen=st.lists(st.integers(0, 25), max_size=40), batch_size=st.sampled_from([1, 4, 16]))
@example(chosen=[], batch_size=4)
@example(chosen=[7] * 20, batch_size=16)
@example(chosen=[LONG, NO_TEXT], batch_size=1)
@example(chosen=[*range(2, 26), LONG], batch_size=4)
def test_every_input_gets_its_own_output_once(alone, chosen, batch_size):
    """Whatever the number of inputs, their order and the rows of a batch."""
    generator, inputs, expected = alone
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(jax_decoding, "_WORTH", 8)  # Batches become smaller for outputs as short as these, too.
        ended = [pair for some in generator.stream([inputs[i] for i in chosen], batch_size) for pair in some]
    assert sorted(place for place, _ in ended) == list(range(len(chosen)))
    assert {place: output.ids for place, output in ended} == {at: expected[i] for at, i in enumerate(chosen)}


def test_a_batch_becomes_smaller_for_the_last_outputs(checkpoint, vocabulary):
    student = load_student(checkpoint, vocabulary=vocabulary)
    inputs = [student.tokens.encode_input(text, 300)[0] for text in REVIEWS.read_text("utf-8").splitlines()[:18]]
    inputs[-1] = (inputs[-1] * 10)[:200]  # It also needs more room than the others.
    student = ending(student, inputs, 70, lambda ends: min(ends) > 69)
    sizes = list[int]()
    generate = student.generator(Decoding(70))
    whole = generate._continue

    def noting(parameters: Any, batch: Any, enough: int) -> Any:
        sizes.append(len(batch.inputs))
        return whole(parameters, batch, enough)

    generate._continue = noting
    found = generate(inputs, batch_size=16)
    assert sizes[0] == 16 and sizes[-1] == 4
    assert [output.ids for output in found] == without_cache(student, inputs, 70)[0]


@pytest.mark.parametrize("scan_layers", [False, True])
def test_beams_of_a_batch_are_those_of_each_input_alone(pairs_checkpoint, vocabulary, scan_layers):
    student = load_student(pairs_checkpoint, vocabulary=vocabulary)
    if scan_layers:
        student = stacked(student)
    inputs = [student.tokens.encode_input(text, 40)[0] for text in REVIEWS.read_text("utf-8").splitlines()[:12]]
    generate = student.generator(Decoding(16, beams=3))
    alone = [generate([row])[0] for row in inputs]
    together = generate(inputs, batch_size=4)
    assert [output.ids for output in together] == [output.ids for output in alone]
    np.testing.assert_allclose([output.score for output in together], [output.score for output in alone], atol=1e-4)


def stacked(student: Student) -> Student:
    """The student with its layers stacked, as ``scan_layers`` expects them."""

    def stack(part: dict[str, Any]) -> dict[str, Any]:
        rest = {name: value for name, value in part.items() if not name.startswith("layers_")}
        layers = [part[f"layers_{i}"] for i in range(len(part) - len(rest))]
        return {**rest, "layers": jax.tree.map(lambda *leaves: np.stack(leaves), *layers)}

    parameters = {
        name: stack(part) if name in ("encoder", "decoder") else part for name, part in student.parameters.items()
    }
    return dataclasses.replace(
        student, config=dataclasses.replace(student.config, scan_layers=True), parameters=parameters
    )
