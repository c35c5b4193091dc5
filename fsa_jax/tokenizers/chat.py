"""The chat template of a decoder-only model. Needs transformers, but neither PyTorch nor TensorFlow."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from fsa_base import untrusted_json
from fsa_base.errors import SettingError, VocabularyError

# By default Llama 3.2's template writes today's date into the prompt. A fixed date gives the same ids every day.
TEMPLATE_ARGUMENTS = {"date_string": "26 Jul 2024", "enable_thinking": False}
"""Arguments of every chat template; a template ignores those that it does not know."""


def escape_control_tokens(text: str, control_tokens: Iterable[str]) -> str:
    """Returns the text with a space inside every control token: a review with ``<|im_end|>`` must not end its turn."""
    for token in sorted(control_tokens, key=len, reverse=True):
        if len(token) > 1:
            text = text.replace(token, f"{token[0]} {token[1:]}")
    return text


class ChatTokenizer:
    """The tokenizer of a model, which writes prompts and responses in the model's chat template.

    Args:
      directory: directory with the tokenizer's files, such as ``hf/`` in the output of ``fsa import-hf``.
      instruction: text before the review in the user's turn; empty by default, as for T5 students.

    Raises:
      VocabularyError: the directory has no readable tokenizer.
      SettingError: the tokenizer has no chat template or no end-of-turn token.
    """

    decoder_only = True

    def __init__(self, directory: str | Path, instruction: str = "") -> None:
        from transformers import AutoTokenizer

        self.directory = Path(directory)
        self.instruction = instruction
        if not self.directory.is_dir():
            raise VocabularyError(
                directory,
                expected="a directory with a tokenizer",
                found="nothing",
                fix="use the hf/ directory that fsa import-hf writes",
            )
        try:
            # Any, because the class depends on the model.
            self._tokenizer: Any = AutoTokenizer.from_pretrained(str(directory), trust_remote_code=False)
        except MemoryError:
            raise
        except Exception as error:  # With a damaged file transformers and tokenizers can raise anything.
            raise VocabularyError(
                directory,
                expected="a tokenizer",
                found=f"{type(error).__name__}: {str(error)[:200]}",
                fix="import the model again",
            ) from error
        if not self._tokenizer.chat_template or self._tokenizer.eos_token_id is None:
            raise SettingError(
                directory,
                expected="a tokenizer with a chat template and an end-of-turn token",
                found="none",
                fix="import the -Instruct model, or copy its chat_template.jinja into the tokenizer's directory",
            )
        self.end_id: int = int(self._tokenizer.eos_token_id)
        self.end_ids = self._all_end_ids()
        self.size = len(self._tokenizer)
        self._control_tokens = tuple(self._tokenizer.get_added_vocab())

    @property
    def end_token(self) -> str:
        """The token that ends a turn, as text."""
        return str(self._tokenizer.convert_ids_to_tokens(self.end_id))

    def tokens(self) -> list[str]:
        """All tokens of the tokenizer, by id."""
        return [str(token) for token in self._tokenizer.convert_ids_to_tokens(list(range(self.size)))]

    def save(self, directory: Path) -> None:
        """Writes the tokenizer and its chat template."""
        self._tokenizer.save_pretrained(str(directory))

    def _all_end_ids(self) -> tuple[int, ...]:
        """The id that ends a turn, then all other ids that end generation (generation_config.json)."""
        file = self.directory / "generation_config.json"
        try:
            listed = untrusted_json.parse(file.read_bytes()).get("eos_token_id") if file.is_file() else None
        except (ValueError, AttributeError) as error:
            raise VocabularyError(
                file, expected="a JSON object", found=str(error), fix="import the model again"
            ) from error
        others = [token for token in (listed if isinstance(listed, list) else [listed]) if token is not None]
        if not all(type(token) is int for token in others):
            raise VocabularyError(
                f"{file}: eos_token_id", expected="ids", found=str(listed)[:80], fix="import the model again"
            )
        return (self.end_id, *(token for token in others if token != self.end_id))

    def _ids(self, text: str) -> list[int]:
        return list(self._tokenizer(text, add_special_tokens=False)["input_ids"])

    def _prompt(self, review: str) -> list[int]:
        content = "\n\n".join(filter(None, [self.instruction, escape_control_tokens(review, self._control_tokens)]))
        turns = [{"role": "user", "content": content}]
        rendered = self._tokenizer.apply_chat_template(
            turns, tokenize=False, add_generation_prompt=True, **TEMPLATE_ARGUMENTS
        )
        return self._ids(str(rendered))

    @functools.cached_property
    def prefix(self) -> tuple[int, ...]:
        """The ids before the review, which prompts have in common, unless the review's first letters change them."""
        prompts = (self._prompt(review) for review in ("a", "The", "1", '"?'))
        columns = zip(*prompts, strict=False)
        return tuple(ids[0] for ids in itertools.takewhile(lambda ids: len(set(ids)) == 1, columns))

    def encode_input(self, text: str, limit: int) -> tuple[list[int], bool]:
        """The ids of the prompt up to the answer, at most ``limit``, and whether the review was cut.

        Raises:
          SettingError: the template alone is longer than ``limit``.
        """
        review = text
        ids, cut = self._prompt(review), False
        while len(ids) > limit:
            words = self._ids(review)
            kept = len(words) - (len(ids) - limit)
            if not review:
                raise SettingError(
                    "input length",
                    expected=f"room for the chat template, {len(ids)} tokens, and the review",
                    found=str(limit),
                    fix="raise the input length",
                )
            # Decoding may add or remove a character at the cut. The loop ends because at least one character is
            # dropped.
            review = str(self._tokenizer.decode(words[: max(kept, 0)]))[: len(review) - 1]
            ids, cut = self._prompt(review), True
        return ids, cut

    def encode_target(self, text: str) -> list[int]:
        """The ids of an answer and of the token that ends it."""
        return [*self._ids(escape_control_tokens(text, self._control_tokens)), self.end_id]

    def decode(self, ids: Sequence[int]) -> str:
        """The text of an answer, up to the first end token."""
        ends = [i for i, token in enumerate(ids) if token in self.end_ids]
        # The embedding may have more rows than the tokenizer has tokens; ids of such rows have no text.
        kept = [token for token in (ids[: ends[0]] if ends else ids) if token < self.size]
        return str(self._tokenizer.decode(kept, skip_special_tokens=True)).strip()
