"""Runs an exported Hugging Face directory with PyTorch, as a user would."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from fsa_base.errors import VocabularyError
from fsa_jax.serving.ct2 import log_softmax
from fsa_jax.serving.export_check import LONGEST_INPUT, Reference, require_same_inputs
from fsa_jax.serving.student import Student
from fsa_jax.tokenizers.chat import ChatTokenizer
from fsa_jax.tokenizers.t5 import NEWLINE_TOKEN

_BATCH = 16


class TorchModel:
    """A model loaded from its directory only, with the dtype and the generation_config.json found there.

    Args:
      directory: output directory of ``fsa export-hf``.
      student: exported student, which gives the instruction and the number of rows.
      max_length: longest output in tokens.
    """

    def __init__(self, directory: Path, student: Student, max_length: int) -> None:
        import torch  # pyright: ignore[reportMissingImports]
        import transformers

        self._torch, self._directory, self._student, self._max_length = torch, directory, student, max_length
        decoder_only = json.loads((directory / "config.json").read_text())["model_type"] != "t5"
        self._decoder_only = decoder_only
        kind = transformers.AutoModelForCausalLM if decoder_only else transformers.AutoModelForSeq2SeqLM
        # Any, because the class depends on the model.
        self._model: Any = kind.from_pretrained(directory, trust_remote_code=False).eval()

    def require_same_inputs(self, sentences: Sequence[str], expected: Reference) -> None:
        """Checks that the tokenizer of the directory gives the same ids as the student's.

        Raises:
          FsaError: it gives other ids.
        """
        tokens = self._student.tokens
        if isinstance(tokens, ChatTokenizer):
            require_same_inputs(expected, sentences, ChatTokenizer(self._directory, tokens.instruction))
            return
        from transformers import AutoTokenizer

        tokenizer: Any = AutoTokenizer.from_pretrained(str(self._directory), trust_remote_code=False)
        for text, ours in zip(sentences, expected.inputs, strict=True):
            theirs = list(tokenizer(text.replace("\n", NEWLINE_TOKEN))["input_ids"])
            if len(theirs) > LONGEST_INPUT:
                continue
            # The same pieces in another order ("!! !" and "! !!") are a tie. Rounding of the sum of scores decides it:
            # SentencePiece adds in float32, the tokenizers library in float64.
            spelled = ["".join(tokenizer.convert_ids_to_tokens(ids)) for ids in (ours, theirs)]
            if sorted(ours) != sorted(theirs) or spelled[0] != spelled[1]:
                raise VocabularyError(
                    self._directory.name,
                    expected=f"the same ids from the exported tokenizer for {text!r}: {ours}",
                    found=str(theirs),
                    fix="train the vocabulary as unigram or byte pairs, with T5's special ids, without byte fallback",
                )

    def generate(self, inputs: Sequence[Sequence[int]]) -> list[list[int]]:
        """Greedy outputs, including the end token if reached."""
        found: dict[int, list[int]] = {}
        for rows, batch in self._batches(inputs):
            outputs = self._model.generate(**batch, max_new_tokens=self._max_length)
            # The output of T5 starts with a start token, that of a decoder-only model with the prompt.
            first = batch["input_ids"].shape[1] if self._decoder_only else 1
            for row, ids in zip(rows, outputs[:, first:].tolist(), strict=True):
                ends = [i for i, token in enumerate(ids) if token in self._student.tokens.end_ids]
                found[row] = ids[: ends[0] + 1] if ends else ids
        return [found[row] for row in range(len(inputs))]

    def first_log_probs(self, inputs: Sequence[Sequence[int]]) -> np.ndarray:
        """Log-probabilities ``[inputs, rows]`` of the first token, with all changes that ``generate`` makes to them."""
        found: dict[int, np.ndarray] = {}
        for rows, batch in self._batches(inputs):
            made = self._model.generate(**batch, max_new_tokens=1, output_scores=True, return_dict_in_generate=True)
            scores = made.scores[0].float().numpy()[:, : self._student.rows]
            found.update(zip(rows, log_softmax(scores), strict=True))
        return np.stack([found[row] for row in range(len(inputs))])

    def forced(self, inputs: Sequence[Sequence[int]], outputs: Sequence[Sequence[int]]) -> list[np.ndarray]:
        """Log-probabilities ``[tokens, rows]`` of all tokens at every position of given outputs."""
        found = []
        for prompt, output in zip(inputs, outputs, strict=True):
            with self._torch.no_grad():
                if self._decoder_only:
                    ids = self._torch.tensor([[*prompt, *output[:-1]]])
                    logits = self._model(input_ids=ids).logits[0, len(prompt) - 1 :]
                else:
                    before = self._torch.tensor([[0, *output[:-1]]])
                    ids = self._torch.tensor([list(prompt)])
                    logits = self._model(input_ids=ids, decoder_input_ids=before).logits[0]
            found.append(log_softmax(logits.float().numpy()[:, : self._student.rows]))
        return found

    def _batches(self, inputs: Sequence[Sequence[int]]) -> Any:
        """Row numbers and arguments of ``generate``; a batch has inputs of equal length, so that nothing is padded."""
        by_length: dict[int, list[int]] = {}
        for row, ids in enumerate(inputs):
            by_length.setdefault(len(ids), []).append(row)
        for same in by_length.values():
            for first in range(0, len(same), _BATCH):
                rows = same[first : first + _BATCH]
                ids = self._torch.tensor([list(inputs[row]) for row in rows])
                yield rows, {"input_ids": ids, "attention_mask": self._torch.ones_like(ids)}
