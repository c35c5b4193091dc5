"""Whether an exported student answers as the JAX student does.

Both are run greedily on the same sentences. A float32 export must give the same outputs; other types must give nearly
all of the same pairs, or nearly all of the same tokens where the student writes the teacher's text, in which one token
that differs changes all that follow.
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
from fsa_jax.serving.generation import Decoding
from fsa_jax.serving.inputs import read_rows
from fsa_jax.serving.student import Student
from fsa_jax.text.pairs import SEPARATOR, read_pairs
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
"""Mean difference in a token's log-probability that an export may have, by the dtype of its weights."""
TIE = 1e-4
"""Log-probabilities of two tokens that are nearer than this are equal: float32 rounds them either way."""
SAME_PAIRS, SAME_TOKENS = 0.95, 0.97
"""Shares that must be the same where the weights are not float32: of outputs if they are pairs, else of tokens."""
END_FACTOR = 10
"""A first token that is the end is unlikely where no answer is empty, and its log-probability rounds the worse."""

OTHER_TYPE = "export with {option} float32, or check with sentences such as it was trained on: --sentences FILE"
"""What to do about a type that changes too many answers; a student is the less sure the less it has seen the like."""

Answers = Literal["pairs", "text"]
_OWN_SENTENCES = Path(__file__).with_name("check_sentences.txt")
LONGEST_INPUT = 512
_BATCH = 32


def check_sentences(file: Path | None, count: int) -> tuple[list[str], str]:
    """Sentences to check with, spread over their source, and what that is.

    Args:
      file: as ``fsa predict`` reads it; by default some 200 sentences of our own.
      count: at most so many.

    Raises:
      SettingError: ``count`` is less than 1.
      MissingDataError: the file is empty.
    """
    if count < 1:
        raise SettingError("--check_count", expected="1 or more", found=str(count), fix="leave it out for 200")
    source = str(file or "sentences of fsa_jax")
    texts = [row.text for row in read_rows(file or _OWN_SENTENCES)]
    texts = [text for text in texts if text.strip()]
    if not texts:
        raise MissingDataError(source, expected="sentences to check with", found="none", fix="--sentences FILE")
    return texts[:: max(1, len(texts) // count)][:count], source


class Exported(Protocol):
    """An exported model, read from its directory with its own tokenizer and generation defaults."""

    def generate(self, inputs: Sequence[Sequence[int]]) -> list[list[int]]:
        """Greedy outputs, the end included where it was reached."""
        ...

    def first_log_probs(self, inputs: Sequence[Sequence[int]]) -> np.ndarray:
        """Log-probabilities ``[inputs, rows]`` of the first token, as the search sees them."""
        ...

    def forced(self, inputs: Sequence[Sequence[int]], outputs: Sequence[Sequence[int]]) -> list[np.ndarray]:
        """Log-probabilities ``[tokens, rows]`` of what may stand at every position of given outputs."""
        ...


class Reference:
    """What the JAX student says to sentences.

    Args:
      student: the student.
      sentences: to run it on.
      max_length: of the outputs, in tokens.

    Attributes:
      inputs: ids of the sentences.
      outputs: greedy outputs, the end included where it was reached.
      answers: whether most outputs are pairs (``term | polarity``), or nothing, or other text.
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
            found.update(zip(rows, (ids for ids, _ in outputs), strict=True))
        self.outputs = [found[i] for i in range(len(self.inputs))]
        # An output that ran to the greatest length may have been cut within a pair.
        whole = [student.tokens.decode(ids) for ids in self.outputs if ids[-1] in self.end_ids]
        pairs = sum(_is_pairs(text) for text in whole)
        self.answers: Answers = "pairs" if pairs > len(self.outputs) / 2 else "text"

    def forced(self, row: int) -> np.ndarray:
        """Log-probabilities ``[tokens, rows]`` of what may stand at every position of an output."""
        prompt, output = self.inputs[row], self.outputs[row]
        first = len(prompt) - 1 if self._student.tokens.decoder_only else 0
        # One sentence at a time: the logits of all, over a vocabulary of 150,000, would not fit small machines.
        arguments = [tokens[row : row + 1] for tokens in self._arguments]
        logits = np.asarray(self._apply(*arguments))[0]
        return log_softmax(logits[first : first + len(output), : self._student.rows])

    @cached_property
    def _arguments(self) -> list[np.ndarray]:
        if self._student.tokens.decoder_only:
            rows = [[*prompt, *output] for prompt, output in zip(self.inputs, self.outputs, strict=True)]
            return [right_padded(rows)[:, :-1]]
        targets = right_padded(self.outputs)
        # Every target position counts here, also one whose token is 0, which T5 would take for padding.
        return [right_padded(self.inputs), np.pad(targets, ((0, 0), (1, 0)))[:, :-1], np.ones_like(targets)]

    @cached_property
    def _apply(self) -> Any:
        import jax

        module, parameters = self._student.module, jax.device_put(self._student.parameters)
        apply = jax.jit(lambda parameters, *tokens: module.apply({"params": parameters}, *tokens, enable_dropout=False))
        return lambda *tokens: apply(parameters, *tokens)


def _is_pairs(text: str) -> bool:
    return not text.strip() or len(read_pairs(text)) == text.count(SEPARATOR) + 1


def right_padded(rows: Sequence[Sequence[int]]) -> np.ndarray:
    """Rows of ids, int32, with zeros after them."""
    padded = np.zeros((len(rows), max(map(len, rows))), np.int32)
    for ids, row in zip(padded, rows, strict=True):
        ids[: len(row)] = row
    return padded


@dataclass(frozen=True)
class Agreement:
    """How an export compares with the JAX student.

    Attributes:
      answers: what the student writes.
      sentences: compared.
      same_outputs: sentences whose greedy outputs are the same.
      ties: of the others, those whose first differing tokens the JAX student finds equally likely (within ``TIE``).
      tokens: of the JAX student's outputs.
      same_tokens: those that the export finds the likeliest too, given the JAX student's tokens before them.
      mean_difference: of a token's log-probability.
      largest_difference: of a token's log-probability.
      empty: outputs of the JAX student that are empty.
      end_difference: mean difference of the log-probability that an answer is empty; None where some are.
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
    """Refuses an export whose tokenizer, as it was written, gives other ids than the student's.

    Raises:
      CheckpointError: it does.
    """
    for text, ours in zip(sentences, expected.inputs, strict=True):
        theirs = tokens.encode_input(text, LONGEST_INPUT)[0]
        if theirs != ours:
            raise CheckpointError(
                f"self-check of the exported tokenizer on {text!r}",
                expected=f"the student's ids: {ours}",
                found=str(theirs),
                fix="report it: the exported tokenizer must be the student's",
            )


def _one_end(ids: Sequence[int], ends: Sequence[int]) -> list[int]:
    """All ends shown as the first, as the JAX decoder shows them."""
    return [ends[0] if token in ends else token for token in ids]


def _is_tie(log_probs: np.ndarray, output: Sequence[int], other: Sequence[int]) -> bool:
    for place, (ours, theirs) in enumerate(zip(output, other, strict=False)):
        if ours != theirs:
            return bool(abs(log_probs[place, ours] - log_probs[place, theirs]) <= TIE)
    return False


def require(agreement: Agreement, dtype: str, tolerance: float | None, what: str, fix: str) -> None:
    """Refuses an export that answers otherwise than the JAX student.

    Args:
      agreement: from ``compare``.
      dtype: of the exported weights, a key of ``TOLERANCES``.
      tolerance: mean difference of a token's log-probability that is accepted; None for the dtype's.
      what: was exported.
      fix: what to do about it.

    Raises:
      CheckpointError: it does, or it gives no numbers.
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
