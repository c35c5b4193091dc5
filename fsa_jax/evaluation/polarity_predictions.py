"""Stored answers to "which polarity has this target?": what a student or a teacher answered about every target or
category of labelled sentences, from which all numbers can be computed again.

Each line of a file is a :class:`PolarityPrediction`. A student gives probabilities for each form of the question; its
answer is computed from them here (:meth:`PolarityPrediction.answer`), so that the stored file decides alone.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Literal, get_args

import numpy as np
from pydantic import Field, ValidationError

from fsa_base import untrusted_json
from fsa_base.errors import DataError, MissingDataError
from fsa_jax.common.records import Polarity, Record
from fsa_jax.text.polarity_forms import SCORED_POLARITIES, ScoredPolarity

Decision = Literal["calibrated", "batch", "uncalibrated", "prior"]
DECISIONS: tuple[Decision, ...] = get_args(Decision)

_SMALLEST = 1e-9
"""Smallest prior probability that a student's answer is divided by."""


class FormScores(Record):
    """What a student says in one form of the question. Probabilities are by polarity, and sum to 1."""

    log_mass: float
    """Log-probability that the student writes any of the form's texts; low for students that write other texts."""
    uncalibrated: dict[ScoredPolarity, float]
    """Probabilities given the sentence."""
    prior: dict[ScoredPolarity, float]
    """Probabilities of the same texts without the sentence: the mean over inputs without content."""
    calibrated: dict[ScoredPolarity, float]
    """``uncalibrated`` divided by ``prior``, normalised."""


class PolarityPrediction(Record):
    """An answer about one target or category of one sentence."""

    student: str
    task: str
    """The dataset, such as ``atsa/rest14``."""
    id: str
    """The sentence's ID."""
    text: str
    target: str | None
    category: str | None
    gold: Polarity
    subsets: tuple[str, ...]
    """The subsets of the test set to which the sentence belongs; ``all`` is always one of them."""
    forms: dict[str, FormScores] = Field(default_factory=dict)
    """What a student says, by form; empty for a teacher."""
    said: ScoredPolarity | None = None
    """What a teacher answered; None for a student, and for a teacher without a usable answer."""
    failure: str | None = None
    """Why a teacher has no usable answer."""

    def mean(self, decision: Decision) -> dict[ScoredPolarity, float]:
        """The mean probabilities over the forms, by polarity; not for ``batch``, which needs all predictions."""
        values = [getattr(scores, decision) for scores in self.forms.values()]
        return {polarity: sum(value[polarity] for value in values) / len(values) for polarity in SCORED_POLARITIES}


def calibrate(uncalibrated: np.ndarray, prior: np.ndarray) -> np.ndarray:
    """Probabilities divided by those without the sentence, normalised; the polarities are the last axis of both.

    This is contextual calibration (Zhao et al. 2021, arXiv 2102.09690, a diagonal matrix without a bias), and the same
    as comparing pointwise mutual information with the sentence (Holtzman et al. 2021, arXiv 2104.08315).

    Example:
      >>> calibrate(np.array([0.6, 0.3, 0.1]), np.array([0.6, 0.3, 0.1])).round(3).tolist()
      [0.333, 0.333, 0.333]
    """
    ratio = uncalibrated / np.maximum(prior, _SMALLEST)
    return ratio / ratio.sum(axis=-1, keepdims=True)


def answers(predictions: Sequence[PolarityPrediction], decision: Decision) -> list[ScoredPolarity | None]:
    """The polarity that each prediction chooses; None where a teacher gave no usable answer.

    Args:
      predictions: predictions of one student or teacher for one dataset. A teacher's answer is what it said.
      decision: "calibrated", "uncalibrated" or "prior": the most likely polarity by the mean over the forms of these
        probabilities. "batch": ``uncalibrated`` divided by its mean over these predictions (batch calibration, Zhou et
        al. 2023, arXiv 2309.17249), so that it depends on all of them, though on no label.
    """
    if not predictions or not predictions[0].forms:
        return [prediction.said for prediction in predictions]
    if decision == "batch":
        values = np.array(
            [
                [[scores.uncalibrated[polarity] for polarity in SCORED_POLARITIES] for scores in one.forms.values()]
                for one in predictions
            ]
        )
        means = calibrate(values, values.mean(axis=0)).mean(axis=1)
    else:
        means = np.array([[one.mean(decision)[polarity] for polarity in SCORED_POLARITIES] for one in predictions])
    return [SCORED_POLARITIES[place] for place in means.argmax(axis=1)]


def form_scores(log_probs: Sequence[float], priors: Sequence[Sequence[float]]) -> FormScores:
    """The scores of a form from its log-probabilities, in the order of ``SCORED_POLARITIES``.

    Args:
      log_probs: log-probability of the texts of each polarity given the sentence.
      priors: the same given each input without content.
    """
    mass = float(np.logaddexp.reduce(log_probs))
    uncalibrated = _normalised(log_probs)
    prior = np.mean([_normalised(one) for one in priors], axis=0)
    named = (
        dict(zip(SCORED_POLARITIES, values.tolist(), strict=True))
        for values in (uncalibrated, prior, calibrate(uncalibrated, prior))
    )
    given, without, calibrated = named
    return FormScores(log_mass=mass, uncalibrated=given, prior=without, calibrated=calibrated)


def _normalised(log_probs: Sequence[float]) -> np.ndarray:
    values = np.asarray(log_probs, np.float64)
    return np.exp(values - np.logaddexp.reduce(values))


def write_predictions(path: Path, predictions: Iterable[PolarityPrediction]) -> None:
    """Writes predictions as JSON lines."""
    with path.open("w", encoding="utf-8") as lines:
        for prediction in predictions:
            lines.write(f"{prediction.model_dump_json(exclude_defaults=True)}\n")


def read_predictions(path: Path) -> list[PolarityPrediction]:
    """Reads predictions that :func:`write_predictions` wrote.

    Raises:
      MissingDataError: there is no such file.
      DataError: a line is no prediction, its probabilities do not sum to 1, or there is none.
    """
    if not path.is_file():
        raise MissingDataError(path, expected="predictions of fsa zero-shot", found="nothing", fix="correct the path")
    found = []
    with path.open(encoding="utf-8") as lines:
        try:
            for number, line in enumerate(lines, 1):
                found.append(_read(line, f"{path}:{number}"))
        except UnicodeDecodeError as error:
            raise DataError(path, expected="UTF-8 text", found=str(error), fix="run fsa zero-shot again") from error
    if not found:
        raise DataError(path, expected="at least one prediction", found="an empty file", fix="run fsa zero-shot again")
    return found


def _read(line: str, place: str) -> PolarityPrediction:
    fix = "run fsa zero-shot again"
    try:
        prediction = PolarityPrediction.model_validate(untrusted_json.parse(line))
    except ValidationError as error:
        first = error.errors()[0]
        found = f"{'.'.join(map(str, first['loc']))}: {first['msg']}"
        raise DataError(place, expected="a prediction", found=found, fix=fix) from None
    except (json.JSONDecodeError, ValueError) as error:
        raise DataError(place, expected="JSON", found=str(error)[:200], fix=fix) from None
    for form, scores in prediction.forms.items():
        for name in ("uncalibrated", "prior", "calibrated"):
            values = getattr(scores, name)
            total = sum(values.values())
            if set(values) != set(SCORED_POLARITIES) or not math.isclose(total, 1, abs_tol=1e-6):
                raise DataError(
                    f"{place}: forms.{form}.{name}",
                    expected=f"probabilities of {', '.join(SCORED_POLARITIES)} that sum to 1",
                    found=str(values)[:200],
                    fix=fix,
                )
    return prediction
