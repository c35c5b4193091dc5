"""Whether an exported student says what the JAX student says, on sentences of the kind that it will meet."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fsa_jax.errors import CheckpointError, MissingDataError
from fsa_jax.paths import data_dir
from fsa_jax.serving.generation import Decoding
from fsa_jax.serving.inputs import read_rows
from fsa_jax.serving.student import Student

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

_OWN_SENTENCES = Path(__file__).with_name("check_sentences.txt")
_DEVELOPMENT = "fsa/atsa/rest14/dev.json"
_LONGEST_INPUT = 512


def check_sentences(file: Path | None, count: int) -> tuple[list[str], str]:
    """Sentences to check with, spread over their source, and what that is.

    Args:
      file: as ``fsa predict`` reads it; by default the development set of Rest14 in the data directory, and where that
        is absent two dozen sentences of our own.
      count: at most so many.

    Raises:
      MissingDataError: the file is empty.
    """
    development = data_dir() / _DEVELOPMENT
    if file is None and development.is_file():
        from fsa_jax.data.fsa import load

        texts, source = [sentence.text for sentence in load(development)], str(development)
    else:
        source = str(file or "sentences of fsa_jax")
        texts = [row.text for row in read_rows(file or _OWN_SENTENCES)]
    texts = [text for text in texts if text.strip()]
    if not texts:
        raise MissingDataError(source, expected="sentences to check with", found="none", fix="--sentences FILE")
    return texts[:: max(1, len(texts) // count)][:count], source


@dataclass(frozen=True)
class Reference:
    """What the JAX student says: inputs, its greedy outputs, and the log-probability of each of their tokens."""

    inputs: list[list[int]]
    outputs: list[list[int]]
    log_probs: list[np.ndarray]


@dataclass(frozen=True)
class Agreement:
    """How an export compares with the JAX student on its outputs."""

    sentences: int
    tokens: int
    mean_difference: float
    """Of a token's log-probability."""
    largest_difference: float
    same_outputs: int
    """Sentences whose greedy outputs are the same."""

    def __str__(self) -> str:
        return (
            f"{self.same_outputs} of {self.sentences} greedy outputs are the same; a token's log-probability differs "
            f"by {self.mean_difference:.2g} on average, {self.largest_difference:.2g} at most ({self.tokens} tokens)"
        )


def reference(student: Student, sentences: Sequence[str], max_length: int) -> Reference:
    """Runs the JAX student on sentences, greedily, up to ``max_length`` tokens."""
    inputs = [student.tokens.encode_input(text, _LONGEST_INPUT)[0] for text in sentences]
    outputs = [ids for ids, _ in student.generator(Decoding(max_length))(inputs)]
    return Reference(inputs, outputs, _jax_log_probs(student, inputs, outputs))


def _jax_log_probs(student: Student, inputs: list[list[int]], outputs: list[list[int]]) -> list[np.ndarray]:
    import jax

    module = student.module
    if student.tokens.decoder_only:
        whole = right_padded([[*prompt, *output] for prompt, output in zip(inputs, outputs, strict=True)])
        arguments, begins = [whole[:, :-1]], [len(prompt) - 1 for prompt in inputs]
    else:
        targets = right_padded(outputs)
        # Every target position counts here, also one whose token is 0, which T5 would take for padding.
        arguments = [right_padded(inputs), np.pad(targets, ((0, 0), (1, 0)))[:, :-1], np.ones_like(targets)]
        begins = [0] * len(inputs)
    apply = jax.jit(lambda parameters, *tokens: module.apply({"params": parameters}, *tokens, enable_dropout=False))
    parameters, found = jax.device_put(student.parameters), []
    # One sentence at a time: the logits of all, over a vocabulary of 150,000, would not fit small machines.
    for row, (begin, output) in enumerate(zip(begins, outputs, strict=True)):
        logits = np.asarray(apply(parameters, *(tokens[row : row + 1] for tokens in arguments)))[0]
        found.append(chosen_log_probs(logits[begin : begin + len(output), : student.rows], output))
    return found


def right_padded(rows: Sequence[Sequence[int]]) -> np.ndarray:
    """Rows of ids, int32, with zeros after them."""
    padded = np.zeros((len(rows), max(map(len, rows))), np.int32)
    for ids, row in zip(padded, rows, strict=True):
        ids[: len(row)] = row
    return padded


def chosen_log_probs(logits: np.ndarray, ids: Sequence[int]) -> np.ndarray:
    """Log-probabilities of ``ids`` under ``logits`` ``[length, vocabulary]``."""
    logits = logits.astype(np.float64)
    highest = logits.max(axis=-1, keepdims=True)
    log_sum = np.log(np.exp(logits - highest).sum(axis=-1)) + highest[:, 0]
    return logits[np.arange(len(ids)), list(ids)] - log_sum


def compare(expected: Reference, outputs: Sequence[Sequence[int]], log_probs: Sequence[np.ndarray]) -> Agreement:
    """Compares an export's greedy outputs, and the log-probabilities that it gives the JAX student's outputs."""
    differences = np.concatenate([np.abs(a - b) for a, b in zip(expected.log_probs, log_probs, strict=True)])
    same = sum(list(a) == list(b) for a, b in zip(expected.outputs, outputs, strict=True))
    return Agreement(len(expected.outputs), differences.size, float(differences.mean()), float(differences.max()), same)


def require(agreement: Agreement, tolerance: float, what: str, fix: str) -> None:
    """Refuses an export that differs by more than ``tolerance``.

    Raises:
      CheckpointError: it does, or it gives no numbers.
    """
    if not agreement.mean_difference <= tolerance:
        raise CheckpointError(
            f"self-check of {what}",
            expected=f"a mean difference of at most {tolerance:g} in a token's log-probability from the JAX student",
            found=str(agreement),
            fix=fix,
        )


def torch_outputs(directory: Path, expected: Reference, max_length: int, rows: int, end_ids: Sequence[int]) -> Any:
    """Greedy outputs and log-probabilities of a Hugging Face directory, by PyTorch transformers in float32.

    Returns:
      The pair that ``compare`` takes.
    """
    import torch  # pyright: ignore[reportMissingImports]
    import transformers

    decoder_only = json.loads((directory / "config.json").read_text())["model_type"] != "t5"
    kind = transformers.AutoModelForCausalLM if decoder_only else transformers.AutoModelForSeq2SeqLM
    model: Any = kind.from_pretrained(directory, dtype=torch.float32, trust_remote_code=False).eval()
    outputs, log_probs = [], []
    for prompt, output in zip(expected.inputs, expected.outputs, strict=True):
        ids = torch.tensor([prompt])
        with torch.no_grad():
            generated = model.generate(
                input_ids=ids,
                attention_mask=torch.ones_like(ids),
                max_new_tokens=max_length,
                do_sample=False,
                num_beams=1,
                eos_token_id=list(end_ids),
                pad_token_id=0,
            )[0].tolist()
            if decoder_only:
                logits = model(input_ids=torch.tensor([[*prompt, *output][:-1]])).logits[0, len(prompt) - 1 :]
            else:
                logits = model(input_ids=ids, decoder_input_ids=torch.tensor([[0, *output[:-1]]])).logits[0]
        generated = generated[len(prompt) if decoder_only else 1 :]
        # All ends are shown as the first, as the JAX decoder shows them.
        outputs.append([end_ids[0] if token in end_ids else token for token in generated])
        log_probs.append(chosen_log_probs(logits.numpy()[:, :rows], output))
    return outputs, log_probs
