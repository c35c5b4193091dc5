"""Decoding with CTranslate2. Imports neither JAX nor TensorFlow nor PyTorch."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fsa_jax.errors import CheckpointError, SettingError
from fsa_jax.serving.tokenization import ChatTokenization, T5Tokenization, Tokenization

DESCRIPTION = "student.json"
TOKENIZER = "tokenizer"


def import_ctranslate2() -> Any:
    """The module ``ctranslate2``.

    Raises:
      SettingError: it is not installed.
    """
    try:
        import ctranslate2
    except ImportError as error:
        raise SettingError(
            "engine ct2", expected="CTranslate2", found="it is not installed", fix="pip install -r requirements.txt"
        ) from error
    return ctranslate2


@dataclass(frozen=True)
class Ct2Student:
    """A CTranslate2 model that ``fsa export-ct2`` wrote, and its tokens."""

    path: Path
    description: dict[str, Any]
    tokens: Tokenization


def is_ct2(directory: Path) -> bool:
    """Whether a directory is one that ``fsa export-ct2`` wrote."""
    return (directory / DESCRIPTION).is_file() and (directory / "model.bin").is_file()


def load_ct2_student(directory: Path) -> Ct2Student:
    """Reads what stands beside a CTranslate2 model.

    Raises:
      CheckpointError: the directory is none that ``fsa export-ct2`` wrote.
    """
    if not is_ct2(directory):
        raise CheckpointError(
            directory,
            expected=f"model.bin and {DESCRIPTION}, as fsa export-ct2 writes them",
            found="other files" if directory.is_dir() else "nothing",
            fix=f"fsa export-ct2 {directory} OUT, then predict with OUT; or --engine jax",
        )
    description = json.loads((directory / DESCRIPTION).read_text(encoding="utf-8"))
    if description["decoder_only"]:
        tokens: Tokenization = ChatTokenization(directory / TOKENIZER, description["instruction"])
    else:
        tokens = T5Tokenization(directory / TOKENIZER / "spiece.model")
    return Ct2Student(directory, description, tokens)


def row_names(tokens: Tokenization, rows: int) -> list[str]:
    """CTranslate2's name of every row of an embedding: the tokens' texts, and made-up ones for rows beyond them."""
    assert isinstance(tokens, T5Tokenization | ChatTokenization)
    names = (tokens.template if isinstance(tokens, ChatTokenization) else tokens).tokens()[:rows]
    return [*names, *(f"<unused_{i}>" for i in range(len(names), rows))]


class Ct2Generator:
    """Decodes batches with CTranslate2.

    Args:
      student: from ``load_ct2_student``.
      max_length: longest output in tokens, its end included.
      beams: 1 for greedy decoding.
      threads: batches that are decoded side by side, a thread each; 0 for one a core. Several threads within a batch of
        a small model wait for each other longer than they work.
      device: ``cpu``, ``cuda`` or ``auto``.
    """

    def __init__(
        self, student: Ct2Student, *, max_length: int, beams: int = 1, threads: int = 0, device: str = "cpu"
    ) -> None:
        ctranslate2 = import_ctranslate2()
        self._decoder_only = student.tokens.decoder_only
        self._max_length, self._beams = max_length, beams
        # On a GPU each one more is a copy of the model.
        self.side_by_side = threads or (len(os.sched_getaffinity(0)) if device == "cpu" else 1)
        kind = ctranslate2.Generator if self._decoder_only else ctranslate2.Translator
        try:
            self._model = kind(str(student.path), device=device, inter_threads=self.side_by_side, intra_threads=1)
        except (RuntimeError, ValueError) as error:
            raise CheckpointError(
                student.path, expected="a CTranslate2 model", found=str(error), fix="export it again: fsa export-ct2"
            ) from error
        self._names = row_names(student.tokens, student.description["rows"])
        self._ids = {name: i for i, name in enumerate(self._names)}
        self._ends = [self._names[i] for i in student.tokens.end_ids]
        self._end_id = student.tokens.end_ids[0]

    def __call__(
        self, batch: Sequence[Sequence[int]], *, batch_size: int | None = None
    ) -> list[tuple[list[int], float]]:
        """Outputs of rows, in their order: ids, the end included where it was reached, and score.

        Rows beyond ``batch_size`` are further batches. The score is the output's log-probability, with beams divided by
        its tokens.
        """
        names = [[self._names[i] for i in row] for row in batch]
        # CTranslate2 leaves the end out, and scores per token where a length penalty of 1 is set.
        common: dict[str, Any] = {
            "beam_size": self._beams,
            "length_penalty": 1.0 if self._beams > 1 else 0.0,
            "return_scores": True,
            "return_end_token": True,
            "end_token": self._ends if len(self._ends) > 1 else self._ends[0],
            "max_batch_size": batch_size or 0,
        }
        if self._decoder_only:
            results = self._model.generate_batch(
                names, max_length=self._max_length, include_prompt_in_result=False, sampling_topk=1, **common
            )
            found = [(result.sequences[0], result.scores[0]) for result in results]
        else:
            results = self._model.translate_batch(names, max_decoding_length=self._max_length, **common)
            found = [(result.hypotheses[0], result.scores[0]) for result in results]
        return [([self._ids.get(name, 2) for name in sequence], score) for sequence, score in found]

    def score(self, inputs: Sequence[Sequence[int]], outputs: Sequence[Sequence[int]]) -> list[np.ndarray]:
        """Log-probability of every token of given outputs."""
        prompts, targets = ([[self._names[i] for i in row] for row in rows] for rows in (inputs, outputs))
        if self._decoder_only:
            whole = [[*prompt, *target] for prompt, target in zip(prompts, targets, strict=True)]
            results = self._model.score_batch(whole)
        else:
            results = self._model.score_batch(prompts, targets)
        found = []
        for result, prompt, output in zip(results, inputs, outputs, strict=True):
            # A decoder-only model is not asked for its first token; a T5 is asked for an end that may not be there.
            first = len(prompt) - 1 if self._decoder_only else 0
            found.append(np.asarray(result.log_probs[first : first + len(output)]))
        return found
