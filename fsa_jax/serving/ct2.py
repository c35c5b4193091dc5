"""Decoding with CTranslate2. Imports neither JAX nor TensorFlow nor PyTorch."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fsa_base import untrusted_json
from fsa_base.errors import CheckpointError, SettingError
from fsa_base.extras import not_installed
from fsa_jax.serving.prediction_record import Output
from fsa_jax.tokenizers import Tokenizer
from fsa_jax.tokenizers.chat import ChatTokenizer
from fsa_jax.tokenizers.t5 import T5Tokenizer

DESCRIPTION = "student.json"
TOKENIZER = "tokenizer"
_DESCRIBED = {"decoder_only": bool, "instruction": str, "rows": int}
_BATCH = 32
_SCORED_TOKENS = 1024
"""Tokens that are scored together, padding included: their log-probabilities over the vocabulary must fit into memory,
600 MB per thread for Qwen's 150,000 ids."""
_PATIENCE = 2
"""CTranslate2 stops when the number of finished outputs equals the number of beams, even if an unfinished output is
better; the JAX search and transformers continue. With patience 2 the outputs agree, except a few more likely ones."""


def import_ctranslate2() -> Any:
    """Imports and returns the module ``ctranslate2``.

    Raises:
      SettingError: it is not installed.
    """
    try:
        import ctranslate2
    except ImportError as error:
        raise not_installed("ctranslate2", "engine ct2") from error
    return ctranslate2


@dataclass(frozen=True)
class Ct2Student:
    """A CTranslate2 model that ``fsa export-ct2`` wrote, with its tokenizer."""

    path: Path
    description: dict[str, Any]
    tokens: Tokenizer


def is_ct2(directory: Path) -> bool:
    """Whether ``fsa export-ct2`` wrote the directory."""
    return (directory / DESCRIPTION).is_file() and (directory / "model.bin").is_file()


def load_ct2_student(directory: Path) -> Ct2Student:
    """Reads the description and the tokenizer of a CTranslate2 model.

    Raises:
      CheckpointError: ``fsa export-ct2`` did not write the directory.
    """
    if not is_ct2(directory):
        raise CheckpointError(
            directory,
            expected=f"model.bin and {DESCRIPTION}, as fsa export-ct2 writes them",
            found="other files" if directory.is_dir() else "nothing",
            fix=f"fsa export-ct2 {directory} OUT, then predict with OUT; or use --engine jax",
        )
    description = _description(directory / DESCRIPTION)
    if description["decoder_only"]:
        tokens: Tokenizer = ChatTokenizer(directory / TOKENIZER, description["instruction"])
    else:
        tokens = T5Tokenizer(directory / TOKENIZER / "spiece.model")
    return Ct2Student(directory, description, tokens)


def _description(file: Path) -> dict[str, Any]:
    """The description of a model, as ``fsa export-ct2`` writes it.

    Raises:
      CheckpointError: the file is damaged.
    """
    try:
        content = untrusted_json.parse(file.read_bytes())
        wrong = [key for key, kind in _DESCRIBED.items() if type(content[key]) is not kind]
        if wrong:
            raise ValueError(f"a wrong type of {', '.join(wrong)}")
    except (ValueError, LookupError, TypeError) as error:
        found = f"no {error}" if isinstance(error, KeyError) else str(error)
        raise CheckpointError(
            file, expected="the output of fsa export-ct2", found=found[:200], fix="export it again: fsa export-ct2"
        ) from error
    return content


def row_names(tokens: Tokenizer, rows: int) -> list[str]:
    """CTranslate2's name for every row of an embedding: the text of its token, or an invented name if it has no token.

    All names are different, because CTranslate2 identifies a token by its name.
    """
    assert isinstance(tokens, T5Tokenizer | ChatTokenizer)
    texts = tokens.tokens()[:rows]
    names: dict[str, None] = {}
    for i, text in enumerate([*texts, *(f"<unused_{i}>" for i in range(len(texts), rows))]):
        names[text if text not in names else f"<row_{i}>"] = None
    return list(names)


def _require_same_names(directory: Path, names: list[str]) -> None:
    """Checks that tokenizer and number of rows belong to the model; otherwise the model would give wrong text.

    Raises:
      CheckpointError: they do not belong to the model.
    """
    for file in sorted(directory.glob("*vocabulary.json")):
        try:
            found = untrusted_json.parse(file.read_bytes())
        except untrusted_json.UntrustedJsonError as error:
            found = str(error)
        if found != names:
            raise CheckpointError(
                file,
                expected=f"the {len(names)} names of the tokenizer next to the model",
                found=f"{len(found)} other names" if isinstance(found, list) else str(found)[:200],
                fix="export it again: fsa export-ct2",
            )


class Ct2Generator:
    """Decodes batches with CTranslate2.

    Args:
      student: result of ``load_ct2_student``.
      max_length: longest output in tokens, including the end token.
      beams: number of beams; 1 for greedy decoding.
      threads: number of batches that are decoded in parallel, one thread each; 0 for one per core. Several threads for
        one batch of a small model would mostly wait for each other.
      device: ``cpu``, ``cuda`` or ``auto``.
      log_probs: whether calls also return the log-probabilities of the tokens; with several beams, they take a second
        pass.

    Raises:
      FsaError: the model cannot be loaded, or there is no such device.
    """

    def __init__(
        self,
        student: Ct2Student,
        *,
        max_length: int,
        beams: int = 1,
        threads: int = 0,
        device: str = "cpu",
        log_probs: bool = False,
    ) -> None:
        ctranslate2 = import_ctranslate2()
        self._decoder_only = student.tokens.decoder_only
        self._max_length, self._beams, self._log_probs = max_length, beams, log_probs
        # On a GPU each additional one needs a copy of the model.
        self._side_by_side = threads or (len(os.sched_getaffinity(0)) if device == "cpu" else 1)
        if device == "cuda" and not ctranslate2.get_cuda_device_count():
            raise SettingError(
                "device", expected="an NVIDIA GPU with a driver", found="none", fix="--device cpu, or --device auto"
            )
        kind = ctranslate2.Generator if self._decoder_only else ctranslate2.Translator
        try:
            self._model = kind(str(student.path), device=device, inter_threads=self._side_by_side, intra_threads=1)
        except (RuntimeError, ValueError) as error:
            fix = "export it again: fsa export-ct2" + ("" if device == "cpu" else "; or try --device cpu")
            raise CheckpointError(student.path, expected="a CTranslate2 model", found=str(error), fix=fix) from error
        self._names = row_names(student.tokens, student.description["rows"])
        _require_same_names(student.path, self._names)
        self._ids = {name: i for i, name in enumerate(self._names)}
        self._ends = [self._names[i] for i in student.tokens.end_ids]

    def stream(self, inputs: Sequence[Sequence[int]], batch_size: int) -> Iterator[list[tuple[int, Output]]]:
        """The outputs, with the places of their inputs, as they are found: as many batches at once as threads."""
        together = batch_size * self._side_by_side
        for first in range(0, len(inputs), together):
            yield list(enumerate(self(inputs[first : first + together], batch_size=batch_size), first))

    def __call__(self, batch: Sequence[Sequence[int]], *, batch_size: int | None = None) -> list[Output]:
        """The outputs of rows, in order: ids (including the end token, if reached), score and log-probabilities.

        Rows beyond ``batch_size`` form further batches. The score is the log-probability of the output, divided by its
        number of tokens if there are several beams.
        """
        log_probs: list[list[float]] = [[] for _ in batch]

        def note(step: Any) -> bool:
            log_probs[step.batch_id].append(step.log_prob)
            return False

        greedy = {"callback": note} if self._log_probs and self._beams == 1 else {}
        results = self._search(batch, self._max_length, max_batch_size=batch_size or 0, **greedy)
        outputs = [(result.sequences if self._decoder_only else result.hypotheses)[0] for result in results]
        if self._log_probs and self._beams > 1:
            log_probs = self._score(batch, outputs)
        return [
            Output([self._ids[name] for name in output], result.scores[0], of_tokens)
            for output, result, of_tokens in zip(outputs, results, log_probs, strict=True)
        ]

    def _score(self, batch: Sequence[Sequence[int]], outputs: Sequence[list[str]]) -> list[list[float]]:
        """The log-probability of every token of the outputs; beam search gives only that of a whole output."""
        prompts = self._named(batch)
        settings: dict[str, Any] = {
            "max_batch_size": _SCORED_TOKENS,
            "batch_type": "tokens",
            "max_input_length": 0,
        }
        if self._decoder_only:
            # The first token of a text has no log-probability.
            whole = [[*prompt, *output] for prompt, output in zip(prompts, outputs, strict=True)]
            results = self._model.score_batch(whole, **settings)
            return [result.log_probs[len(prompt) - 1 :] for prompt, result in zip(prompts, results, strict=True)]
        # CTranslate2 scores one more end token after each output.
        results = self._model.score_batch(prompts, outputs, **settings)
        return [result.log_probs[: len(output)] for output, result in zip(outputs, results, strict=True)]

    def generate(self, inputs: Sequence[Sequence[int]]) -> list[list[int]]:
        """The outputs of rows, without scores."""
        return [output.ids for output in self(inputs, batch_size=_BATCH)]

    def first_log_probs(self, inputs: Sequence[Sequence[int]]) -> np.ndarray:
        """Log-probabilities ``[inputs, rows]`` of an output's first token, as in the search."""
        results = self._search(inputs, 1, max_batch_size=_BATCH, return_logits_vocab=True)
        # The last step is used, because for longer prompts of a batch the first steps belong to the prompt.
        return np.stack([log_softmax(np.asarray(result.logits[0][-1])) for result in results])

    def _search(self, batch: Sequence[Sequence[int]], max_length: int, **more: Any) -> Any:
        names = self._named(batch)
        # CTranslate2's defaults would forbid empty answers of T5, cut inputs at 1,024 tokens, leave out the end token,
        # and divide greedy scores by the length.
        common: dict[str, Any] = {
            "beam_size": self._beams,
            "length_penalty": 1.0 if self._beams > 1 else 0.0,
            "patience": _PATIENCE,
            "return_scores": True,
            "return_end_token": True,
            "end_token": self._ends if len(self._ends) > 1 else self._ends[0],
            **more,
        }
        if self._decoder_only:
            return self._model.generate_batch(
                names, max_length=max_length, min_length=0, include_prompt_in_result=False, sampling_topk=1, **common
            )
        return self._model.translate_batch(
            names, max_decoding_length=max_length, min_decoding_length=0, max_input_length=0, **common
        )

    def _named(self, rows: Sequence[Sequence[int]]) -> list[list[str]]:
        return [[self._names[i] for i in row] for row in rows]

    def forced(self, inputs: Sequence[Sequence[int]], outputs: Sequence[Sequence[int]]) -> list[np.ndarray]:
        """Log-probabilities ``[tokens, rows]`` of what may stand at every position of given outputs."""
        return [self._forced(prompt, output) for prompt, output in zip(inputs, outputs, strict=True)]

    def _forced(self, prompt: Sequence[int], output: Sequence[int]) -> np.ndarray:
        if self._decoder_only:
            whole = self._named([[*prompt, *output[:-1]]])
            logits = np.asarray(self._model.forward_batch(whole))[0, len(prompt) - 1 :]
        else:
            (result,) = self._model.translate_batch(
                self._named([prompt]),
                target_prefix=self._named([output[:-1]]),
                max_decoding_length=len(output),
                min_decoding_length=0,
                max_input_length=0,
                beam_size=1,
                return_logits_vocab=True,
            )
            logits = np.stack([np.asarray(step) for step in result.logits[0]])
        return log_softmax(logits[: len(output)])


def log_softmax(logits: np.ndarray) -> np.ndarray:
    """Log-probabilities (float64) from logits, over the last axis."""
    logits = logits.astype(np.float64)
    highest = logits.max(axis=-1, keepdims=True)
    return logits - highest - np.log(np.exp(logits - highest).sum(axis=-1, keepdims=True))
