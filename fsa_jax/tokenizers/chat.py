"""Chat turns in the template of a decoder-only model. Needs transformers; neither PyTorch nor TensorFlow."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from fsa_base import untrusted_json
from fsa_base.errors import SettingError, VocabularyError

# Llama 3.2's template writes today's date into the prompt unless told one; the same review must give the same ids.
_TEMPLATE_ARGUMENTS = {"date_string": "26 Jul 2024", "enable_thinking": False}


def escape_control_tokens(text: str, control_tokens: Iterable[str]) -> str:
    """Returns the text with a space inside every control token: a review with ``<|im_end|>`` must not end its turn."""
    for token in sorted(control_tokens, key=len, reverse=True):
        if len(token) > 1:
            text = text.replace(token, f"{token[0]} {token[1:]}")
    return text


class ChatTokenizer:
    """The tokenizer in a model's directory, and prompts and responses in its chat template.

    Args:
      directory: with the tokenizer's files, such as ``hf/`` of what ``fsa import-hf`` wrote.
      instruction: what the user's turn says before the review; nothing by default, as for T5 students.

    Raises:
      VocabularyError: the directory holds no tokenizer that can be read.
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
                fix="fsa import-hf writes one: hf/",
            )
        try:
            # Any: the class depends on the model.
            self._tokenizer: Any = AutoTokenizer.from_pretrained(str(directory), trust_remote_code=False)
        except MemoryError:
            raise
        except Exception as error:  # What a damaged file makes of transformers and tokenizers is any exception.
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
                fix="import the -Instruct model, or put its chat_template.jinja beside the tokenizer",
            )
        self.end_id: int = int(self._tokenizer.eos_token_id)
        self.end_ids = self._all_end_ids()
        self.size = len(self._tokenizer)
        self._control_tokens = tuple(self._tokenizer.get_added_vocab())

    @property
    def end_token(self) -> str:
        """Text of the token that ends a turn."""
        return str(self._tokenizer.convert_ids_to_tokens(self.end_id))

    def tokens(self) -> list[str]:
        """The tokenizer's name of every id."""
        return [str(token) for token in self._tokenizer.convert_ids_to_tokens(list(range(self.size)))]

    def save(self, directory: Path) -> None:
        """Writes the tokenizer and its template."""
        self._tokenizer.save_pretrained(str(directory))

    def _all_end_ids(self) -> tuple[int, ...]:
        """The end of a turn first, then what else the model may end with (generation_config.json)."""
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
            turns, tokenize=False, add_generation_prompt=True, **_TEMPLATE_ARGUMENTS
        )
        return self._ids(str(rendered))

    def encode_input(self, text: str, limit: int) -> tuple[list[int], bool]:
        """Ids up to where the answer begins, at most ``limit``, and whether the review was cut for that.

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
            # Decoding may add or lose a character at the cut, so what is kept shrinks by a character at least.
            review = str(self._tokenizer.decode(words[: max(kept, 0)]))[: len(review) - 1]
            ids, cut = self._prompt(review), True
        return ids, cut

    def encode_target(self, text: str) -> list[int]:
        """Ids of an answer and the token that ends it."""
        return [*self._ids(escape_control_tokens(text, self._control_tokens)), self.end_id]

    def decode(self, ids: Sequence[int]) -> str:
        """Text of an answer, up to any of its ends."""
        ends = [i for i, token in enumerate(ids) if token in self.end_ids]
        # Rows of the embedding beyond the tokenizer stand for nothing.
        kept = [token for token in (ids[: ends[0]] if ends else ids) if token < self.size]
        return str(self._tokenizer.decode(kept, skip_special_tokens=True)).strip()
