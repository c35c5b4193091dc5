"""Asks a teacher the questions of a zero-shot evaluation, through the job, the store and the engines of ``fsa teach``.

A question is stored as a review with a prompt of its own (prompts/polarity-v1.yaml), so that answers are paid once, and
a stopped evaluation goes on. Use a store of its own for it: the answers are no teacher text to distil from.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from fsa_base.errors import TeacherError
from fsa_jax.benchmark.zero_shot import Example
from fsa_jax.common.records import Generation
from fsa_jax.evaluation.polarity_predictions import PolarityPrediction
from fsa_jax.teacher.generation_requests import read_prompt
from fsa_jax.teacher.store.reader import generations
from fsa_jax.teacher.teach import teach
from fsa_jax.text.analysis import parse_sentiment
from fsa_jax.text.polarity_forms import SCORED_POLARITIES, ScoredPolarity
from fsa_jax.text.words import hash64

PROMPT = Path(__file__).parent / "prompts" / "polarity-v1.yaml"
MAX_TOKENS = 32
_LABEL = "sentiment:"
_SHOWN = 80


@dataclass(frozen=True)
class ZeroShotTeacher:
    """A teacher of the evaluation.

    Attributes:
      name: name of the model for vLLM or the endpoint; also its name in tables.
      store: folder of its answers.
      options: further arguments of :func:`fsa_jax.teacher.teach.teach`, such as ``endpoint``.
      say: receives lines about the job.
    """

    name: str
    store: Path
    options: Mapping[str, Any] = field(default_factory=dict)
    say: Callable[[str], None] = lambda line: None

    @property
    def identity(self) -> dict[str, Any]:
        """What determines its answers, as JSON values."""
        return {"teacher": self.name, "prompt": read_prompt(PROMPT).hash}

    def predict(self, examples: Sequence[Example], task: str) -> list[PolarityPrediction]:
        """The teacher's answers about examples, in their order; those in the store are not asked again.

        Raises:
          TeacherError: the job was stopped before all questions were answered.
          FsaError: the teacher does not answer, or the store cannot be used.
        """
        ids = [_id(example, task) for example in examples]
        with TemporaryDirectory() as folder:
            file = Path(folder, "questions.jsonl")
            rows = ({"id": id, "text": _text(example)} for id, example in zip(ids, examples, strict=True))
            file.write_text("".join(f"{json.dumps(row)}\n" for row in rows), encoding="utf-8")
            options = {"temperature": 0.0, "top_p": 1.0, "max_tokens": MAX_TOKENS, **self.options}
            result = teach(file, self.store, self.name, prompts=str(PROMPT), say=self.say, **options)
        if result.stopped:
            raise TeacherError(
                self.name,
                expected="answers to all questions",
                found=f"the job was stopped: {result.stopped}",
                fix="run the same command again: answers in the store are kept",
            )
        wanted, prompt = set(ids), read_prompt(PROMPT).hash
        answered = {
            found.review_id: found
            for found in generations(self.store)
            if found.review_id in wanted and found.teacher == self.name and found.prompt_hash == prompt
        }
        return [self._prediction(example, task, answered.get(id)) for id, example in zip(ids, examples, strict=True)]

    def _prediction(self, example: Example, task: str, answer: Generation | None) -> PolarityPrediction:
        said, failure = None, "not answered" if answer is None else answer.failure
        if answer is not None and answer.text is not None:
            said = read_answer(answer.text)
            failure = None if said else f"no polarity in {answer.text[:_SHOWN]!r}"
        return PolarityPrediction(
            student=self.name,
            task=task,
            id=example.sentence.id,
            text=example.sentence.text,
            target=example.target,
            category=example.category,
            gold=example.gold,
            subsets=example.subsets,
            said=said,
            failure=failure,
        )


def read_answer(text: str) -> ScoredPolarity | None:
    """The polarity in a teacher's answer: of its line ``Sentiment: …``, or of a text that is nothing but a sentiment.

    Example:
      >>> read_answer("Sentiment: Very Positive"), read_answer("negative."), read_answer("I cannot say.")
      ('positive', 'negative', None)
    """
    lines = [line.strip(" \t*-\"'") for line in text.splitlines() if line.strip()]
    labelled = [line[len(_LABEL) :] for line in lines if line.casefold().startswith(_LABEL)]
    sentiments = {parse_sentiment(line) for line in labelled or lines}
    said = {sentiment and sentiment.removeprefix("very ") for sentiment in sentiments}
    found: list[ScoredPolarity] = [polarity for polarity in SCORED_POLARITIES if polarity in said]
    return found[0] if len(said) == len(found) == 1 else None


def _id(example: Example, task: str) -> str:
    part = "hard" if example.sentence.hard else "original"
    # With the text: sentences without an ID have the same numbers in every file.
    return f"{task} {part} {example.sentence.id} {example.target or example.category} {hash64(_text(example)):016x}"


def _text(example: Example) -> str:
    sentence = " ".join(example.sentence.text.split())
    question = example.question
    about = question.target if question.aspect is None else f"{question.target} ({question.aspect})"
    return f"Sentence: {sentence}\nTarget: {about}"
