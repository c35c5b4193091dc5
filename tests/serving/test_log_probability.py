"""The log-probability of a predicted aspect, and ``--min_score``."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hf_models import write_model

from fsa_jax.cli import main as cli
from fsa_jax.serving import Predictor
from fsa_jax.serving.ct2 import Ct2Generator, load_ct2_student
from fsa_jax.serving.export_check import Reference
from fsa_jax.serving.export_ct2 import write_ct2
from fsa_jax.serving.jax_decoding import Decoding
from fsa_jax.serving.prediction_record import Output, Prediction, SpanScorer, read_prediction
from fsa_jax.serving.student import load_student
from fsa_jax.tokenizers.t5 import T5Tokenizer
from fsa_jax.weights.weight_checkpoints import save_weights
from tests.parity.small_models import write_tokenizer
from tests.serving.conftest import trained_parameters

LENGTH = 40


def fsa(*arguments: object) -> int:
    return cli.main([str(argument) for argument in arguments])


ANSWERS = ("", "food | positive", "food | negative ; staff | positive")


@pytest.fixture(scope="module")
def reviews(texts) -> list[str]:
    return texts[:12]


@pytest.fixture(scope="module")
def trained(reviews, vocabulary, tmp_path_factory) -> Path:
    """A T5 that answers a third of the reviews with nothing, a third with one pair and a third with two."""
    answers = [ANSWERS[number % 3] for number in range(len(reviews))]
    parameters = trained_parameters(T5Tokenizer(vocabulary), reviews, answers, steps=150)
    return save_weights(tmp_path_factory.mktemp("trained"), 1, parameters)


@pytest.fixture(scope="module")
def exported(trained, vocabulary, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("exported")
    write_ct2(load_student(trained, vocabulary=vocabulary), out, "float32")
    return out


def log_probabilities(predictions: list[Prediction]) -> list[list[float | None]]:
    return [[aspect.log_probability for aspect in prediction.aspects] for prediction in predictions]


@pytest.mark.parametrize("beams", [1, 3])
def test_both_engines_give_an_aspect_the_same_log_probability(beams, trained, exported, vocabulary, reviews):
    settings = {"task": "acsa", "beams": beams, "max_output_length": LENGTH}
    ours = Predictor(trained, vocabulary=vocabulary, **settings).predict(reviews)
    theirs = Predictor(exported, **settings).predict(reviews, batch_size=7)
    assert [prediction.generated for prediction in theirs] == [prediction.generated for prediction in ours]
    for one, other in zip(log_probabilities(ours), log_probabilities(theirs), strict=True):
        assert other == pytest.approx(one, abs=1e-3)
    assert {0, 1, 2} == {len(prediction.aspects) for prediction in ours}


def test_a_log_probability_is_the_sum_over_the_tokens_that_spell_the_pair(trained, vocabulary, reviews):
    """The separator between pairs and the end token belong to no pair."""
    student = load_student(trained, vocabulary=vocabulary)
    reference = Reference(student, reviews, LENGTH)
    pieces = student.tokens.tokens()  # pyright: ignore[reportAttributeAccessIssue]
    predictor = Predictor(trained, vocabulary=vocabulary, task="acsa", max_output_length=LENGTH)
    compared = 0
    for row, prediction in enumerate(predictor.predict(reviews)):
        ids = reference.outputs[row]
        scores = reference.forced(row)[np.arange(len(ids)), ids]
        sums, written = [0.0], ""
        for token, score in zip(ids, scores, strict=True):
            if pieces[token] == "▁" and written.endswith(("positive", "negative")):
                continue  # the blank before a separator
            if pieces[token] == ";":
                sums.append(0.0)
            elif pieces[token] != "</s>":
                sums[-1] += score
            written += pieces[token]
        found = [aspect.log_probability for aspect in prediction.aspects]
        assert found == pytest.approx(sums[: len(found)], abs=1e-3)
        compared += len(found)
    assert compared > 6


@pytest.mark.parametrize("beams", [1, 2])
def test_both_engines_give_the_tokens_of_a_chat_student_the_same_log_probabilities(beams, tmp_path):
    shape = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 4}
    shape |= {"vocab_size": 320, "num_key_value_heads": 2, "tie_word_embeddings": True, "rope_theta": 1000000.0}
    write_model(tmp_path / "student", {**shape, "model_type": "qwen2"})
    write_tokenizer(tmp_path / "student")
    student = load_student(tmp_path / "student")
    (tmp_path / "ct2").mkdir()
    write_ct2(student, tmp_path / "ct2", "float32")
    prompts = [
        student.tokens.encode_input(text, 64)[0] for text in ("good", "The pizza was good, the staff not.", "no")
    ]
    ours = student.generator(Decoding(6, beams))(prompts)
    exported = load_ct2_student(tmp_path / "ct2")
    theirs = Ct2Generator(exported, max_length=6, beams=beams, log_probs=True)(prompts, batch_size=2)
    for one, other in zip(ours, theirs, strict=True):
        assert one.ids == other.ids and len(one.log_probs) == len(other.log_probs) == len(one.ids)
        assert other.log_probs == pytest.approx(one.log_probs, abs=1e-3)
        assert sum(one.log_probs) == pytest.approx(one.score * (len(one.ids) if beams > 1 else 1), abs=1e-3)


def spell(pieces: Sequence[bytes], log_probs: Sequence[float], generated: str) -> SpanScorer:
    def decode(ids: Sequence[int]) -> str:
        return b"".join(pieces[i] for i in ids).decode("utf-8", "replace")

    return SpanScorer(Output(list(range(len(pieces))), 0.0, list(log_probs)), decode, generated)


def test_a_character_of_several_tokens_counts_with_all_of_them():
    """Byte-pair vocabularies write rare characters as several tokens, and a token may lie on both sides of a border."""
    generated = "café | positive ; é | negative"
    pieces = [b"caf", b"\xc3", b"\xa9", b" |", b" positive", b" ;", b" ", b"\xc3", b"\xa9 |", b" negative", b""]
    scorer = spell(pieces, [2.0**-place for place in range(11)], generated)
    found = read_prediction("acsa", "1", "", generated, 0, False, scorer)
    first, second = sum(2.0**-place for place in range(5)), sum(2.0**-place for place in range(6, 10))
    assert [aspect.log_probability for aspect in found.aspects] == pytest.approx([first, second], abs=1e-4)


def test_opinions_have_no_log_probability(exported, reviews):
    (found,) = Predictor(exported, task="analysis", max_output_length=4).predict(reviews[:1])
    assert found.aspects == () and found.opinions == ()


def test_min_score_leaves_out_aspects_and_counts_them(exported, reviews, tmp_path, capsys):
    file, settings = tmp_path / "in.txt", ["--task", "acsa", "--max_output_length", LENGTH]
    file.write_text("\n".join(reviews))
    assert fsa("predict", exported, file, tmp_path / "all.jsonl", *settings) == 0
    every = [json.loads(line) for line in (tmp_path / "all.jsonl").read_text().splitlines()]
    scores = sorted(aspect["log_probability"] for row in every for aspect in row["aspects"])
    least = math.exp(scores[3])
    capsys.readouterr()
    assert fsa("predict", exported, file, tmp_path / "few.jsonl", *settings, "--min_score", least) == 0
    few = [json.loads(line) for line in (tmp_path / "few.jsonl").read_text().splitlines()]
    for row in every:
        row["aspects"] = [aspect for aspect in row["aspects"] if math.exp(aspect["log_probability"]) >= least]
    assert few == every
    assert "3 aspects were left out" in capsys.readouterr().out


@pytest.mark.parametrize(("value", "task"), [("-1", "atsa"), ("1.5", "atsa"), ("0.5", "analysis")])
def test_a_min_score_that_cannot_be_used_is_refused(value, task, exported, tmp_path, capsys):
    (tmp_path / "in.txt").write_text("good")
    assert fsa("predict", exported, tmp_path / "in.txt", tmp_path / "out", "--min_score", value, "--task", task) == 2
    assert "--min-score: expected" in capsys.readouterr().err


def test_a_predictor_prints_nothing(checkpoint, vocabulary, capfd):
    (found,) = Predictor(checkpoint, vocabulary=vocabulary, max_output_length=4).predict(["The pizza was good."])
    assert found.error is None and capfd.readouterr() == ("", "")
