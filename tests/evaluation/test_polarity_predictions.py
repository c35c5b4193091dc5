"""Stored answers about polarities, and what is computed from them."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fsa_base.errors import DataError, MissingDataError
from fsa_jax.common.records import Polarity
from fsa_jax.evaluation.polarity_predictions import (
    PolarityPrediction,
    answers,
    form_scores,
    read_predictions,
    write_predictions,
)
from fsa_jax.text.polarity_forms import SCORED_POLARITIES

LOG_PROBS = st.lists(st.floats(-30, -0.01), min_size=3, max_size=3)


def prediction(
    number: int, *log_probs: list[float], prior: list[float], gold: Polarity = "positive"
) -> PolarityPrediction:
    forms = {f"form-{i}": form_scores(one, [prior]) for i, one in enumerate(log_probs)}
    return PolarityPrediction(
        student="s",
        task="atsa/t",
        id=str(number),
        text="x",
        target="x",
        category=None,
        gold=gold,
        subsets=("all",),
        forms=forms,
    )


@given(LOG_PROBS, st.lists(LOG_PROBS, min_size=1, max_size=3))
def test_probabilities_sum_to_one(log_probs, priors):
    scores = form_scores(log_probs, priors)
    for values in (scores.uncalibrated, scores.prior, scores.calibrated):
        assert sum(values.values()) == pytest.approx(1)
        assert set(values) == set(SCORED_POLARITIES)
    assert math.exp(scores.log_mass) == pytest.approx(sum(map(math.exp, log_probs)))


@given(LOG_PROBS, st.lists(st.floats(-8, 8), min_size=3, max_size=3))
def test_calibration_undoes_a_planted_prior(evidence, bias):
    """A student that likes a polarity equally with and without a sentence is judged by the sentence alone."""
    planted = (np.array(evidence) + bias).tolist()
    found = form_scores(planted, [bias]).calibrated
    fair = form_scores(evidence, [[0.0, 0.0, 0.0]]).uncalibrated
    assert list(found.values()) == pytest.approx(list(fair.values()), abs=1e-9)


@given(st.permutations(SCORED_POLARITIES), st.lists(st.floats(-4, 4), min_size=3, max_size=3))
def test_batch_calibration_undoes_a_bias_that_all_predictions_share(order, bias):
    """Without calibration a strong bias decides alone."""
    evidence = [[3.0 if polarity == right else 0.0 for polarity in SCORED_POLARITIES] for right in order]
    planted = [prediction(i, (np.array(row) + bias).tolist(), prior=[0, 0, 0]) for i, row in enumerate(evidence)]
    assert answers(planted, "batch") == list(order)


def test_a_bias_decides_without_calibration():
    rows = [prediction(i, [4.0 + 3 * (i == 0), 3.0 * (i == 1), 3.0 * (i == 2)], prior=[4, 0, 0]) for i in range(3)]
    assert answers(rows, "uncalibrated") == ["positive"] * 3
    assert answers(rows, "calibrated") == answers(rows, "batch") == list(SCORED_POLARITIES)


def test_forms_are_averaged():
    strong, weak = [math.log(p) for p in (0.05, 0.9, 0.05)], [math.log(p) for p in (0.6, 0.3, 0.1)]
    flat = [0.0, 0.0, 0.0]
    assert answers([prediction(0, weak, prior=flat)], "calibrated") == ["positive"]
    assert answers([prediction(0, weak, strong, prior=flat)], "calibrated") == ["negative"]


def test_each_decision_uses_its_probabilities():
    row = prediction(0, [math.log(p) for p in (0.5, 0.3, 0.2)], prior=[math.log(p) for p in (0.8, 0.15, 0.05)])
    assert [answers([row], decision)[0] for decision in ("uncalibrated", "calibrated", "prior")] == [
        "positive",
        "neutral",
        "positive",
    ]


def test_a_teachers_answer_is_what_it_said():
    common = {"student": "t", "task": "atsa/t", "text": "x", "target": "x", "category": None, "subsets": ("all",)}
    rows = [
        PolarityPrediction(**common, id="1", gold="positive", said="negative"),
        PolarityPrediction(**common, id="2", gold="positive", failure="refused"),
    ]
    assert answers(rows, "calibrated") == ["negative", None]


@given(st.lists(st.tuples(LOG_PROBS, LOG_PROBS), min_size=1, max_size=4))
def test_what_is_written_is_read_exactly(tmp_path_factory, rows):
    path = tmp_path_factory.mktemp("stored") / "predictions.jsonl"
    written = [prediction(i, log_probs, prior=prior) for i, (log_probs, prior) in enumerate(rows)]
    write_predictions(path, written)
    assert read_predictions(path) == written


@pytest.mark.parametrize(
    ("damage", "found"),
    [
        (lambda text: text[: len(text) // 2], r":1"),
        (lambda text: text.replace('"uncalibrated":{"positive":', '"uncalibrated":{"positive":9'), "sum to 1"),
        (lambda text: text.replace('"gold":"positive"', '"gold":"good"'), "gold"),
        (lambda text: "", "empty"),
        (lambda text: "\udcff", "UTF-8"),
    ],
)
def test_damaged_predictions_are_an_error_with_file_and_line(damage, found, tmp_path: Path):
    path = tmp_path / "predictions.jsonl"
    write_predictions(path, [prediction(0, [-1.0, -2.0, -3.0], prior=[-1.0, -1.0, -1.0])])
    path.write_bytes(damage(path.read_text()).encode("utf-8", "surrogateescape"))
    with pytest.raises(DataError, match=found) as error:
        read_predictions(path)
    assert str(path) in str(error.value)


def test_missing_predictions_are_an_error(tmp_path: Path):
    with pytest.raises(MissingDataError):
        read_predictions(tmp_path / "nothing.jsonl")
