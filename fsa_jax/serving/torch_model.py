"""An exported Hugging Face directory, run by PyTorch as its user runs it."""

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
    """A model that was read from its directory alone: weights in the type that they have there, ``generate`` with the
    defaults of its generation_config.json.

    Args:
      directory: what ``fsa export-hf`` writes.
      student: that was exported; for its instruction and its number of rows.
      max_length: of outputs, in tokens.
    """

    def __init__(self, directory: Path, student: Student, max_length: int) -> None:
        import torch  # pyright: ignore[reportMissingImports]
        import transformers

        self._torch, self._directory, self._student, self._max_length = torch, directory, student, max_length
        decoder_only = json.loads((directory / "config.json").read_text())["model_type"] != "t5"
        self._decoder_only = decoder_only
        kind = transformers.AutoModelForCausalLM if decoder_only else transformers.AutoModelForSeq2SeqLM
        # Any: the class depends on the model.
        self._model: Any = kind.from_pretrained(directory, trust_remote_code=False).eval()

    def require_same_inputs(self, sentences: Sequence[str], expected: Reference) -> None:
        """Refuses a directory whose tokenizer gives other ids than the student's.

        Raises:
          FsaError: it does.
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
            # The same pieces in another order (!! ! for ! !!) are a tie, which the rounding of the scores' sum decides:
            # SentencePiece adds in float32, tokenizers in float64.
            spelled = ["".join(tokenizer.convert_ids_to_tokens(ids)) for ids in (ours, theirs)]
            if sorted(ours) != sorted(theirs) or spelled[0] != spelled[1]:
                raise VocabularyError(
                    self._directory.name,
                    expected=f"the same ids from the exported tokenizer for {text!r}: {ours}",
                    found=str(theirs),
                    fix="train the vocabulary as unigram or byte pairs, with T5's special ids, without byte fallback",
                )

    def generate(self, inputs: Sequence[Sequence[int]]) -> list[list[int]]:
        """Greedy outputs, the end included where it was reached."""
        found: dict[int, list[int]] = {}
        for rows, batch in self._batches(inputs):
            outputs = self._model.generate(**batch, max_new_tokens=self._max_length)
            # A T5 answers from its start token on, a decoder-only model goes on with the prompt.
            first = batch["input_ids"].shape[1] if self._decoder_only else 1
            for row, ids in zip(rows, outputs[:, first:].tolist(), strict=True):
                ends = [i for i, token in enumerate(ids) if token in self._student.tokens.end_ids]
                found[row] = ids[: ends[0] + 1] if ends else ids
        return [found[row] for row in range(len(inputs))]

    def first_log_probs(self, inputs: Sequence[Sequence[int]]) -> np.ndarray:
        """Log-probabilities ``[inputs, rows]`` of the first token, after all that ``generate`` does to them."""
        found: dict[int, np.ndarray] = {}
        for rows, batch in self._batches(inputs):
            made = self._model.generate(**batch, max_new_tokens=1, output_scores=True, return_dict_in_generate=True)
            scores = made.scores[0].float().numpy()[:, : self._student.rows]
            found.update(zip(rows, log_softmax(scores), strict=True))
        return np.stack([found[row] for row in range(len(inputs))])

    def forced(self, inputs: Sequence[Sequence[int]], outputs: Sequence[Sequence[int]]) -> list[np.ndarray]:
        """Log-probabilities ``[tokens, rows]`` of what may stand at every position of given outputs."""
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
        """Rows and what ``generate`` takes for them; inputs of one length together, so that nothing is padded."""
        by_length: dict[int, list[int]] = {}
        for row, ids in enumerate(inputs):
            by_length.setdefault(len(ids), []).append(row)
        for same in by_length.values():
            for first in range(0, len(same), _BATCH):
                rows = same[first : first + _BATCH]
                ids = self._torch.tensor([list(inputs[row]) for row in rows])
                yield rows, {"input_ids": ids, "attention_mask": self._torch.ones_like(ids)}
