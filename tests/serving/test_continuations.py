"""Log-probabilities of forced texts: they equal those of decoding, whatever they are computed together with."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hf_models import QWEN3, write_model
from hypothesis import given, settings
from hypothesis import strategies as st

from fsa_jax.serving.continuations import Continuation, ContinuationScorer
from fsa_jax.serving.jax_decoding import Decoding
from fsa_jax.serving.student import Student, load_student
from tests.parity.small_models import write_tokenizer

LENGTH = 12


@pytest.fixture(scope="module")
def t5(checkpoint: Path, vocabulary: Path) -> Student:
    return load_student(checkpoint, vocabulary=vocabulary)


@pytest.fixture(scope="module")
def qwen(tmp_path_factory: pytest.TempPathFactory) -> Student:
    directory = tmp_path_factory.mktemp("qwen")
    # Ids after the tokenizer's are padding of the embedding, and impossible.
    write_model(directory, {**QWEN3, "vocab_size": 264})
    write_tokenizer(directory)
    return load_student(directory)


@pytest.fixture(scope="module", params=["t5", "qwen"])
def student(request: pytest.FixtureRequest) -> Student:
    return request.getfixturevalue(request.param)


@pytest.fixture(scope="module")
def scorer(student: Student) -> ContinuationScorer:
    return ContinuationScorer(student)


def encoded(student: Student, texts: list[str]) -> list[list[int]]:
    # The tokens of the decoder-only student are letters.
    most = 40 if student.tokens.decoder_only else None
    return [student.tokens.encode_input(text[:most], 200)[0] for text in texts]


def test_the_score_of_an_output_is_that_of_decoding(student, scorer, texts):
    inputs = encoded(student, texts[:16])
    outputs = student.generator(Decoding(LENGTH))(inputs, batch_size=8)
    found = scorer.log_probs(inputs, [Continuation(i, tuple(output.ids)) for i, output in enumerate(outputs)])
    np.testing.assert_allclose(found, [output.score for output in outputs], atol=1e-3)
    assert student.tokens.decoder_only or len({len(ids) for ids in inputs}) > 5, "needs inputs of several lengths"


def test_greedy_completion_is_the_rest_of_the_output(student, scorer, texts):
    inputs = encoded(student, texts[:16])
    outputs = student.generator(Decoding(LENGTH))(inputs, batch_size=8)
    ends = student.tokens.end_ids
    beginnings = [Continuation(i, tuple(output.ids[: i % 4])) for i, output in enumerate(outputs)]
    found = scorer.complete(inputs, beginnings, ends, LENGTH)
    for beginning, output, ids in zip(beginnings, outputs, found, strict=True):
        wanted = [token for token in output.ids[len(beginning.ids) :] if token not in ends]
        assert list(ids[: len(wanted)]) == wanted


def test_completion_ends_before_a_stop(student, scorer, texts):
    inputs = encoded(student, texts[:1])
    (whole,) = scorer.complete(inputs, [Continuation(0, ())], [], LENGTH)
    stop = whole[LENGTH // 2]
    (found,) = scorer.complete(inputs, [Continuation(0, ())], [stop], LENGTH)
    assert found == whole[: whole.index(stop)]


def test_the_probabilities_of_all_tokens_sum_to_one(student, scorer, texts):
    inputs = encoded(student, texts[:2])
    every = [Continuation(i, (9, token), 1) for i in range(2) for token in range(student.rows)]
    sums = np.exp(scorer.log_probs(inputs, every)).reshape(2, -1).sum(axis=1)
    np.testing.assert_allclose(sums, 1, atol=1e-4)


@given(data=st.data())
@settings(max_examples=5, deadline=None)
def test_a_score_is_the_sum_of_its_parts_and_does_not_depend_on_its_neighbours(student, scorer, texts, data):
    inputs = encoded(student, texts[:6])
    token = st.integers(3, 100)
    ids = tuple(data.draw(st.lists(token, min_size=1, max_size=8), label="ids"))
    cut = data.draw(st.integers(0, len(ids)), label="cut")
    input = data.draw(st.integers(0, 5), label="input")
    others = data.draw(st.lists(st.tuples(st.integers(0, 5), st.lists(token, max_size=8)), max_size=5), label="others")
    parts = [Continuation(input, ids), Continuation(input, ids[:cut]), Continuation(input, ids, cut)]
    neighbours = [Continuation(owner, tuple(other)) for owner, other in others]
    whole, first, second, *_ = scorer.log_probs(inputs, [*parts, *neighbours])
    assert whole == pytest.approx(first + second, abs=1e-3)
    assert whole == pytest.approx(scorer.log_probs(inputs, parts[:1])[0], abs=1e-3)


def test_a_long_neighbour_changes_nothing(student, scorer, texts):
    inputs = encoded(student, texts[:2])
    short, long = Continuation(0, (5, 6, 7)), Continuation(1, tuple(range(3, 43)))
    assert scorer.log_probs(inputs, [short, long])[0] == pytest.approx(scorer.log_probs(inputs, [short])[0], abs=1e-3)


def test_an_empty_text_has_log_probability_zero(student, scorer, texts):
    inputs = encoded(student, texts[:1])
    assert scorer.log_probs(inputs, [Continuation(0, ()), Continuation(0, (5, 6), 2)]).tolist() == [0, 0]
    assert scorer.log_probs(inputs, []).tolist() == []


def test_untrained_students_depend_on_the_seed_alone(student, texts):
    inputs = encoded(student, texts[:2])
    text = [Continuation(0, (5, 6, 7)), Continuation(1, (5, 6, 7))]
    once, again, other = (ContinuationScorer(student.untrained(seed)).log_probs(inputs, text) for seed in (0, 0, 1))
    assert once.tolist() == again.tolist()
    assert not np.allclose(once, other)
