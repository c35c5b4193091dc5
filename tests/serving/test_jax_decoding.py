"""Rows of a batch are used again when their outputs have ended; the outputs are those of each input alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fsa_base.networks.t5.network import Transformer
from fsa_jax.serving.export_check import right_padded
from fsa_jax.serving.jax_decoding import Decoding
from fsa_jax.serving.student import Student, load_student

REVIEWS = Path(__file__).parents[2] / "fsa_jax" / "serving" / "check_sentences.txt"
END = 1


def without_cache(student: Student, inputs: list[list[int]], length: int) -> tuple[list[list[int]], list[list[float]]]:
    """Greedy outputs, and their log-probabilities, from whole forward passes for every token."""
    assert isinstance(student.module, Transformer)
    ids, targets = right_padded(inputs), np.zeros((len(inputs), length + 1), np.int32)
    log_probs = np.zeros((len(inputs), length))

    @jax.jit
    def logits(before: Any) -> Any:
        tokens = jnp.ones_like(before)
        scored = student.module.apply({"params": student.parameters}, ids, before, tokens, enable_dropout=False)
        return cast(jax.Array, scored)[:, :, : student.rows]

    for position in range(length):
        now = np.asarray(jax.nn.log_softmax(logits(targets[:, :-1])[:, position]))
        targets[:, position + 1] = now.argmax(axis=-1)
        log_probs[:, position] = now.max(axis=-1)
    cut = [row[: row.index(END) + 1] if END in row else row for row in targets[:, 1:].tolist()]
    return cut, [row[: len(ids)] for ids, row in zip(cut, log_probs.tolist(), strict=True)]


@pytest.mark.parametrize(("length", "batch_size"), [(6, 8), (30, 1), (30, 16), (30, 24)])
def test_outputs_that_end_at_once_later_and_never(pairs_checkpoint, vocabulary, length, batch_size):
    student = load_student(pairs_checkpoint, vocabulary=vocabulary)
    inputs = [student.tokens.encode_input(text, 40)[0] for text in REVIEWS.read_text("utf-8").splitlines()[:60]]
    expected, log_probs = without_cache(student, inputs, length)
    lengths = {len(row) for row in expected}
    assert 1 in lengths and len(lengths) > 1
    assert length > 6 or any(END not in row for row in expected)
    found = student.generator(Decoding(length))(inputs, batch_size=batch_size)
    assert [output.ids for output in found] == expected
    for output, those in zip(found, log_probs, strict=True):
        np.testing.assert_allclose(output.log_probs, those, atol=1e-4)
        np.testing.assert_allclose(output.score, sum(those), atol=1e-3)


def test_a_batch_becomes_smaller_for_the_last_outputs(checkpoint, vocabulary):
    student = load_student(checkpoint, vocabulary=vocabulary)
    inputs = [student.tokens.encode_input(text, 300)[0] for text in REVIEWS.read_text("utf-8").splitlines()[:18]]
    inputs[-1] = (inputs[-1] * 10)[:200]  # It also needs more room than the others.
    sizes = list[int]()
    generate = student.generator(Decoding(70))
    whole = generate._continue

    def noting(parameters: Any, batch: Any, enough: int) -> Any:
        sizes.append(len(batch.inputs))
        return whole(parameters, batch, enough)

    generate._continue = noting
    found = generate(inputs, batch_size=16)
    assert [output.ids for output in found] == without_cache(student, inputs, 70)[0]
    assert sizes[0] == 16 and sizes[-1] == 4


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
    from dataclasses import replace

    def stack(part: dict[str, Any]) -> dict[str, Any]:
        rest = {name: value for name, value in part.items() if not name.startswith("layers_")}
        layers = [part[f"layers_{i}"] for i in range(len(part) - len(rest))]
        return {**rest, "layers": jax.tree.map(lambda *leaves: np.stack(leaves), *layers)}

    parameters = {
        name: stack(part) if name in ("encoder", "decoder") else part for name, part in student.parameters.items()
    }
    return replace(student, config=replace(student.config, scan_layers=True), parameters=parameters)
