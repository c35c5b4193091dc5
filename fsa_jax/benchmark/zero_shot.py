"""Zero-shot classification of sentiment: which polarity does a student that was never fine-tuned give a target?

The student is a distilled one, which writes analyses and rewritings. It is not asked to write: the texts that it would
write if the target were positive, negative or neutral are scored (:mod:`fsa_jax.text.polarity_forms`), given the
sentence, and given an input without content, whose probabilities calibrate the others.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from fsa_base.errors import DataError, VocabularyError
from fsa_jax.common.records import LabelledAspect, LabelledSentence
from fsa_jax.evaluation.polarity_predictions import FormScores, PolarityPrediction, form_scores
from fsa_jax.evaluation.subsets import SUBSETS, select
from fsa_jax.serving.continuations import Continuation, ContinuationScorer
from fsa_jax.serving.student import Student
from fsa_jax.text.polarity_forms import (
    SCORED_POLARITIES,
    FormName,
    Question,
    ScoredPolarity,
    analysis_beginning,
    question_of_category,
    texts_of,
)

Kind = Literal["atsa", "acsa"]

NEUTRAL_INPUTS = ("N/A", "The {target}.")
"""Inputs without content, whose mean gives the prior: one of Zhao et al. (2021), and the target without a sentence.

They were chosen on dev and training sentences of the demo (docs/zero_shot.md). With an empty input, a student may give
a polarity a probability of 1e-9, by which nothing can be divided.
"""
MOST_INPUT = 512
"""Longest input in tokens, as in ``fsa predict``."""
_MOST_ASPECT = 16
_NO_ASPECT = "General"


@dataclass(frozen=True)
class Example:
    """One target or category of a sentence, with its gold polarity."""

    sentence: LabelledSentence
    target: str | None
    category: str | None
    gold: ScoredPolarity
    subsets: tuple[str, ...]

    @property
    def question(self) -> Question:
        if self.target is None:
            assert self.category is not None  # examples_of sets one of the two.
            return question_of_category(self.category)
        return Question(self.target)


def examples_of(sentences: Iterable[LabelledSentence], kind: Kind, place: str) -> tuple[list[Example], Counter[str]]:
    """The examples of labelled sentences, and how many labels were left out and why.

    Left out are: ``conflict`` labels; labels without a target (atsa); a label that its sentence has twice, which counts
    once as in the pairs of the F1; and those of a target or category that has several polarities in one sentence,
    because the question does not say which of them is meant.

    Args:
      sentences: labelled sentences.
      kind: what is asked about: ``atsa`` the targets, ``acsa`` the categories.
      place: the file or dataset, for errors.

    Raises:
      DataError: a label of acsa data has no category, or no example is left.
    """
    examples: list[Example] = []
    left_out: Counter[str] = Counter()
    for sentence in sentences:
        subsets = _subsets(sentence)
        polarities: dict[str, list[str]] = {}
        for aspect in sentence.aspects:
            name = _name(aspect, sentence, kind, place)
            if name is None:
                left_out["without a target"] += 1
            else:
                polarities.setdefault(name, []).append(aspect.polarity)
        for name, found in polarities.items():
            different = set(found)
            if different == {"conflict"}:
                left_out["conflict"] += len(found)
                continue
            if len(different) > 1:
                left_out["several polarities of one " + ("target" if kind == "atsa" else "category")] += len(found)
                continue
            if len(found) > 1:
                left_out["repeated"] += len(found) - 1
            gold: ScoredPolarity = next(polarity for polarity in SCORED_POLARITIES if polarity in different)
            target, category = (name, None) if kind == "atsa" else (None, name)
            examples.append(Example(sentence, target, category, gold, subsets))
    if not examples:
        raise DataError(
            place,
            expected="at least one label that is positive, negative or neutral",
            found=", ".join(f"{count} {reason}" for reason, count in left_out.items()) or "no label",
            fix="give labelled sentences (docs/data.md)",
        )
    return examples, left_out


def _name(aspect: LabelledAspect, sentence: LabelledSentence, kind: Kind, place: str) -> str | None:
    if kind == "atsa":
        return aspect.target
    if not aspect.category:
        raise DataError(
            f"{place}, sentence {sentence.id}",
            expected="a category for every label of acsa data",
            found=f"none for the target {aspect.target!r}",
            fix="add the categories, or score the targets: put the file below a folder atsa (docs/data.md)",
        )
    return aspect.category


def _subsets(sentence: LabelledSentence) -> tuple[str, ...]:
    """The subsets of a sentence; without annotated opinion words it cannot be in ``implicit``."""
    annotated = all(aspect.opinion_words is not None for aspect in sentence.aspects)
    return tuple(
        subset
        for subset in SUBSETS
        if (subset != "implicit" or annotated) and select([sentence], subset)  # pyright: ignore[reportArgumentType]
    )


class ZeroShot:
    """Scores polarities with one student.

    Args:
      student: the student.
      forms: forms of the question to average.
    """

    def __init__(self, student: Student, forms: Sequence[FormName]) -> None:
        self._tokens = student.tokens
        self._scorer = ContinuationScorer(student)
        self._forms = tuple(forms)
        self._encoded: dict[str, list[int]] = {}
        self.cut = 0
        """Number of sentences that were longer than the longest input, and cut."""

    def predict(self, examples: Sequence[Example], student: str, task: str) -> list[PolarityPrediction]:
        """The predictions for examples, in their order.

        Args:
          examples: the examples.
          student: name of the student, for the predictions.
          task: name of the dataset, for the predictions.
        """
        given = self._scores([(example.sentence.text, example.question) for example in examples])
        questions = [example.question for example in examples]
        priors = [
            self._scores([(neutral.format(target=question.target), question) for question in questions])
            for neutral in NEUTRAL_INPUTS
        ]
        predictions = []
        for row, example in enumerate(examples):
            forms: dict[str, FormScores] = {
                form: form_scores(given[form][row].tolist(), [prior[form][row].tolist() for prior in priors])
                for form in self._forms
            }
            predictions.append(
                PolarityPrediction(
                    student=student,
                    task=task,
                    id=example.sentence.id,
                    text=example.sentence.text,
                    target=example.target,
                    category=example.category,
                    gold=example.gold,
                    subsets=example.subsets,
                    forms=forms,
                )
            )
        return predictions

    def _scores(self, asked: Sequence[tuple[str, Question]]) -> dict[FormName, np.ndarray]:
        """Log-probabilities (questions, polarities) by form: the texts of a polarity exclude each other, so they are
        summed. A question that is asked several times about one text is scored once."""
        unique = list(dict.fromkeys(asked))
        texts = list(dict.fromkeys(text for text, _ in unique))
        places = {text: place for place, text in enumerate(texts)}
        inputs = [self._input(text) for text in texts]
        owners = [places[text] for text, _ in unique]
        rows = {one: row for row, one in enumerate(unique)}
        found: dict[FormName, np.ndarray] = {}
        for form in self._forms:
            questions = [question for _, question in unique]
            if form == "analysis-aspect":
                questions = self._with_aspects(inputs, owners, questions)
            scores = self._score_form(form, inputs, owners, questions)
            found[form] = scores[[rows[one] for one in asked]]
        return found

    def _input(self, text: str) -> list[int]:
        if text not in self._encoded:
            self._encoded[text], cut = self._tokens.encode_input(text, MOST_INPUT)
            self.cut += cut
        return self._encoded[text]

    def _ids(self, text: str) -> tuple[int, ...]:
        """The ids of a text that goes on: without the end token."""
        return tuple(self._tokens.encode_target(text)[:-1])

    def _with_aspects(
        self, inputs: Sequence[Sequence[int]], owners: Sequence[int], questions: Sequence[Question]
    ) -> list[Question]:
        """The questions, each with the aspect that the student itself finds most likely, unless it has one."""
        missing = [row for row, question in enumerate(questions) if question.aspect is None]
        beginnings = [Continuation(owners[row], self._ids(analysis_beginning(questions[row]))) for row in missing]
        line_end = set(self._ids("a\n")) - set(self._ids("a"))
        stops = [*line_end, *self._tokens.end_ids]
        completed = list(questions)
        for row, ids in zip(missing, self._scorer.complete(inputs, beginnings, stops, _MOST_ASPECT), strict=True):
            aspect = self._tokens.decode(ids).split("\n")[0].strip() or _NO_ASPECT
            completed[row] = Question(questions[row].target, aspect)
        return completed

    def _score_form(
        self, form: FormName, inputs: Sequence[Sequence[int]], owners: Sequence[int], questions: Sequence[Question]
    ) -> np.ndarray:
        continuations: list[Continuation] = []
        sizes: list[int] = []
        for owner, question in zip(owners, questions, strict=True):
            texts = texts_of(form, question)
            sizes = [len(texts[polarity]) for polarity in SCORED_POLARITIES]
            ids = [self._ids(text) for polarity in SCORED_POLARITIES for text in texts[polarity]]
            self._require_different(ids, sizes, texts[SCORED_POLARITIES[0]][0])
            # What all have in common changes none of the differences.
            start = sum(1 for _ in itertools.takewhile(lambda same: len(set(same)) == 1, zip(*ids, strict=False)))
            continuations += [Continuation(owner, one, start) for one in ids]
        scores = self._scorer.log_probs(inputs, continuations).reshape(len(questions), -1)
        parts = np.split(scores, np.cumsum(sizes)[:-1], axis=1)
        return np.stack([np.logaddexp.reduce(part, axis=1) for part in parts], axis=1)

    def _require_different(self, ids: Sequence[tuple[int, ...]], sizes: Sequence[int], example: str) -> None:
        """Refuses a vocabulary that lacks the characters of the words, so that two polarities have the same ids."""
        rest = iter(ids)
        groups = [set(itertools.islice(rest, size)) for size in sizes]
        if any(one & other for one, other in itertools.combinations(groups, 2)):
            raise VocabularyError(
                "the student's vocabulary",
                expected="different ids for the texts of different polarities",
                found=f"the same ids as for {example!r}",
                fix="use a student that was distilled from English teacher text, with its own vocabulary",
            )
