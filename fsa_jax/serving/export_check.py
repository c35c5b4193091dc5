"""Checks that an exported student gives the same answers as the JAX student.

Both are run with greedy decoding on the same sentences. A float32 export must give the same outputs. With other dtypes
nearly all outputs must be the same, if they are pairs. If the student writes teacher text, in which one different token
changes all following tokens, nearly all tokens must be the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np

from fsa_base.errors import CheckpointError, MissingDataError, SettingError
from fsa_jax.serving.ct2 import log_softmax
from fsa_jax.serving.inputs import read_rows
from fsa_jax.serving.jax_decoding import Decoding
from fsa_jax.serving.student import Student
from fsa_jax.text.pairs import SEPARATOR, read_pairs
from fsa_jax.text.tuples import read_tuples
from fsa_jax.tokenizers import Tokenizer

TOLERANCES = {
    "float32": 1e-3,
    "float16": 1e-2,
    "bfloat16": 1e-1,
    "int16": 5e-2,
    "int8": 2e-1,
    "int8_float32": 2e-1,
    "int8_float16": 2e-1,
    "int8_bfloat16": 2e-1,
}
"""Largest accepted mean difference of a token's log-probability, by dtype of the weights."""
TIE = 1e-4
"""Two tokens whose log-probabilities differ by less than this count as a tie, because float32 may round either way."""
SAME_PAIRS, SAME_TOKENS = 0.95, 0.97
"""Required shares of equal outputs (if they are pairs) or equal tokens (otherwise), for dtypes other than float32."""
END_FACTOR = 10
"""Factor on the tolerance for the end token as first token: if no answer is empty it is very unlikely, so the rounding
error of its log-probability is larger."""

OTHER_TYPE = "export with {option} float32, or check with sentences like those of its training: --sentences FILE"
"""The fix for a dtype that changes too many answers. On unusual sentences a student is less certain, so more change."""

Answers = Literal["pairs", "text"]
_OWN_SENTENCES = Path(__file__).with_name("check_sentences.txt")
LONGEST_INPUT = 512
_BATCH = 32


def check_sentences(file: Path | None, count: int) -> tuple[list[str], str]:
    """Sentences for the check, evenly spread over their source, and the name of the source.

    Args:
      file: file in a format that ``fsa predict`` reads; by default about 200 sentences that come with this package.
      count: largest number of sentences.

    Raises:
      SettingError: ``count`` is less than 1.
      MissingDataError: the file is empty.
    """
    if count < 1:
        raise SettingError(
            "--check-count", expected="1 or more", found=str(count), fix="omit it for the default of 200"
        )
    source = str(file or "sentences of fsa_jax")
    texts = [row.text for row in read_rows(file or _OWN_SENTENCES)]
    texts = [text for text in texts if text.strip()]
    if not texts:
        raise MissingDataError(source, expected="sentences to check with", found="none", fix="--sentences FILE")
    return texts[:: max(1, len(texts) // count)][:count], source


class Exported(Protocol):
    """An exported model that was loaded from its directory, with its tokenizer and generation defaults."""

    def generate(self, inputs: Sequence[Sequence[int]]) -> list[list[int]]:
        """Greedy outputs, including the end token if reached."""
        ...

    def first_log_probs(self, inputs: Sequence[Sequence[int]]) -> np.ndarray:
        """Log-probabilities ``[inputs, rows]`` of the first token, as in the search."""
        ...

    def forced(self, inputs: Sequence[Sequence[int]], outputs: Sequence[Sequence[int]]) -> list[np.ndarray]:
        """Log-probabilities ``[tokens, rows]`` of what may stand at every position of given outputs."""
        ...


class Reference:
    """The answers of the JAX student to sentences.

    Args:
      student: the JAX student.
      sentences: input sentences.
      max_length: longest output in tokens.

    Attributes:
      inputs: ids of the sentences.
      outputs: greedy outputs, including the end token if reached.
      answers: ``pairs`` if most outputs are empty or pairs (``term | polarity``), otherwise ``text``.
    """

    def __init__(self, student: Student, sentences: Sequence[str], max_length: int) -> None:
        self._student = student
        self.end_ids = student.tokens.end_ids
        self.inputs = [student.tokens.encode_input(text, LONGEST_INPUT)[0] for text in sentences]
        generator = student.generator(Decoding(max_length))
        by_length = sorted(range(len(self.inputs)), key=lambda i: len(self.inputs[i]))
        found: dict[int, list[int]] = {}
        for first in range(0, len(by_length), _BATCH):
            rows = by_length[first : first + _BATCH]
            outputs = generator([self.inputs[i] for i in rows], batch_size=min(_BATCH, len(by_length)))
            found.update(zip(rows, (output.ids for output in outputs), strict=True))
        self.outputs = [found[i] for i in range(len(self.inputs))]
        # An output of maximum length may have been cut inside a pair.
        whole = [student.tokens.decode(ids) for ids in self.outputs if ids[-1] in self.end_ids]
        pairs = sum(_is_pairs(text) for text in whole)
        self.answers: Answers = "pairs" if pairs > len(self.outputs) / 2 else "text"

    def forced(self, row: int) -> np.ndarray:
        """Log-probabilities ``[tokens, rows]`` of all tokens at every position of an output."""
        prompt, output = self.inputs[row], self.outputs[row]
        first = len(prompt) - 1 if self._student.tokens.decoder_only else 0
        # One sentence at a time, because the logits of all over a vocabulary of 150,000 may not fit into memory.
        arguments = [tokens[row : row + 1] for tokens in self._arguments]
        logits = np.asarray(self._apply(*arguments))[0]
        return log_softmax(logits[first : first + len(output), : self._student.rows])

    @cached_property
    def _arguments(self) -> list[np.ndarray]:
        if self._student.tokens.decoder_only:
            rows = [[*prompt, *output] for prompt, output in zip(self.inputs, self.outputs, strict=True)]
            return [right_padded(rows)[:, :-1]]
        targets = right_padded(self.outputs)
        # All target positions are used, even those with token 0, which T5 treats as padding. So the targets are ones.
        return [right_padded(self.inputs), np.pad(targets, ((0, 0), (1, 0)))[:, :-1], np.ones_like(targets)]

    @cached_property
    def _apply(self) -> Any:
        import jax

        module, parameters = self._student.module, jax.device_put(self._student.parameters)
        apply = jax.jit(lambda parameters, *tokens: module.apply({"params": parameters}, *tokens, enable_dropout=False))
        return lambda *tokens: apply(parameters, *tokens)


def _is_pairs(text: str) -> bool:
    """Whether a text is pairs, triples or quadruples; terms need not be those of a sentence."""
    forms = [read_pairs(text), *(read_tuples(text, text, size) for size in (3, 4))]
    return not text.strip() or text.count(SEPARATOR) + 1 in map(len, forms)


def right_padded(rows: Sequence[Sequence[int]]) -> np.ndarray:
    """Rows of ids (int32), padded with zeros on the right."""
    padded = np.zeros((len(rows), max(map(len, rows))), np.int32)
    for ids, row in zip(padded, rows, strict=True):
        ids[: len(row)] = row
    return padded


@dataclass(frozen=True)
class Agreement:
    """Result of the comparison between an export and the JAX student.

    Attributes:
      answers: kind of the student's outputs.
      sentences: number of compared sentences.
      same_outputs: number of sentences with the same greedy output.
      ties: number of the other sentences in which the JAX student finds the first differing tokens equally likely
        (within ``TIE``).
      tokens: number of tokens of the JAX student's outputs.
      same_tokens: number of these tokens that are also the export's most likely ones, given the tokens before.
      mean_difference: mean difference of a token's log-probability.
      largest_difference: largest difference of a token's log-probability.
      empty: number of empty outputs of the JAX student.
      end_difference: mean difference of the log-probability of an empty answer; None if some answers are empty.
    """

    answers: Answers
    sentences: int
    same_outputs: int
    ties: int
    tokens: int
    same_tokens: int
    mean_difference: float
    largest_difference: float
    empty: int
    end_difference: float | None

    def __str__(self) -> str:
        kind = "pairs" if self.answers == "pairs" else "text"
        ties = f", {self.ties} differ by a tie" if self.ties else ""
        empty = (
            f"{self.empty} of them empty"
            if self.end_difference is None
            else (f"none of them empty, that probability's logarithm differs by {self.end_difference:.2g} on average")
        )
        return (
            f"the student answers {kind}; {self.same_outputs} of {self.sentences} greedy outputs are the same{ties} "
            f"({empty}); {self.same_tokens} of {self.tokens} tokens are the same after the same tokens; a token's "
            f"log-probability differs by {self.mean_difference:.2g} on average, {self.largest_difference:.2g} at most"
        )


def compare(expected: Reference, exported: Exported) -> Agreement:
    """Runs an exported model on the sentences and compares it with the JAX student."""
    ends = list(expected.end_ids)
    outputs = [_one_end(ids, ends) for ids in exported.generate(expected.inputs)]
    same = [ours == theirs for ours, theirs in zip(expected.outputs, outputs, strict=True)]
    none_empty = all(ids[0] not in ends for ids in expected.outputs)
    empty = sum(ids[0] in ends for ids in expected.outputs)
    first = exported.first_log_probs(expected.inputs)[:, ends].max(axis=-1) if none_empty else None
    same_tokens, ties, differences, end_differences = 0, 0, list[np.ndarray](), list[float]()
    for row, output in enumerate(expected.outputs):
        ours = expected.forced(row)
        (theirs,) = exported.forced([expected.inputs[row]], [output])
        places = np.arange(len(output))
        differences.append(np.abs(ours[places, output] - theirs[places, output]))
        same_tokens += sum(a == b for a, b in zip(output, _one_end(theirs.argmax(axis=-1).tolist(), ends), strict=True))
        if not same[row]:
            ties += _is_tie(ours, output, outputs[row])
        if first is not None:
            end_differences.append(abs(float(ours[0, ends].max() - first[row])))
    joined = np.concatenate(differences)
    return Agreement(
        answers=expected.answers,
        sentences=len(same),
        same_outputs=sum(same),
        ties=ties,
        tokens=joined.size,
        same_tokens=same_tokens,
        mean_difference=float(joined.mean()),
        largest_difference=float(joined.max()),
        empty=empty,
        end_difference=float(np.mean(end_differences)) if none_empty else None,
    )


def require_same_inputs(expected: Reference, sentences: Sequence[str], tokens: Tokenizer) -> None:
    """Checks that the tokenizer of an export gives the same ids as the student's.

    Raises:
      CheckpointError: it gives other ids.
    """
    for text, ours in zip(sentences, expected.inputs, strict=True):
        theirs = tokens.encode_input(text, LONGEST_INPUT)[0]
        if theirs != ours:
            raise CheckpointError(
                f"self-check of the exported tokenizer on {text!r}",
                expected=f"the student's ids: {ours}",
                found=str(theirs),
                fix="report this error: the exported tokenizer must be the student's",
            )


def _one_end(ids: Sequence[int], ends: Sequence[int]) -> list[int]:
    """Ids with every end token replaced by the first one, as in the outputs of the JAX student."""
    return [ends[0] if token in ends else token for token in ids]


def _is_tie(log_probs: np.ndarray, output: Sequence[int], other: Sequence[int]) -> bool:
    for place, (ours, theirs) in enumerate(zip(output, other, strict=False)):
        if ours != theirs:
            return bool(abs(log_probs[place, ours] - log_probs[place, theirs]) <= TIE)
    return False


def require(agreement: Agreement, dtype: str, tolerance: float | None, what: str, fix: str) -> None:
    """Checks that an export gives the same answers as the JAX student.

    Args:
      agreement: result of ``compare``.
      dtype: dtype of the exported weights, a key of ``TOLERANCES``.
      tolerance: largest accepted mean difference of a token's log-probability. If None, the tolerance of the dtype.
      what: description of the export, for the error.
      fix: ``fix`` text of the error.

    Raises:
      CheckpointError: the answers differ too much, or the differences are NaN.
    """
    tolerance = TOLERANCES[dtype] if tolerance is None else tolerance
    required = [
        (
            agreement.mean_difference <= tolerance,
            f"a mean difference of at most {tolerance:g} in a token's log-probability",
        ),
        (
            agreement.end_difference is None or agreement.end_difference <= END_FACTOR * tolerance,
            f"a mean difference of at most {END_FACTOR * tolerance:g} in the log-probability of an empty answer",
        ),
    ]
    if dtype == "float32":
        same = agreement.same_outputs + agreement.ties
        required.append((same == agreement.sentences, "the same greedy outputs"))
    elif agreement.answers == "pairs":
        least = SAME_PAIRS * agreement.sentences
        required.append((agreement.same_outputs >= least, f"at least {SAME_PAIRS:.0%} of the outputs equal"))
    else:
        least = SAME_TOKENS * agreement.tokens
        required.append((agreement.same_tokens >= least, f"at least {SAME_TOKENS:.0%} of the tokens equal"))
    missed = [text for held, text in required if not held]
    if missed:
        raise CheckpointError(
            f"self-check of {what}",
            expected=f"{' and '.join(missed)}, compared with the JAX student",
            found=str(agreement),
            fix=fix,
        )
