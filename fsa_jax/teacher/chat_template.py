"""Turns a chat into the teacher's tokens with the chat template of its tokenizer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fsa_base.errors import TeacherError
from fsa_jax.teacher.generation_requests import Message, Request


class TeacherTokenizer:
    """The tokenizer of a teacher with its chat template.

    Args:
      name: Hugging Face name, or a folder with the tokenizer's files.
      revision: commit on the Hub.
      template_arguments: variables of the template, such as ``{"enable_thinking": False}``.
      trust_remote_code: whether to run Python code that comes with the tokenizer.

    Raises:
      TeacherError: the tokenizer cannot be loaded, or has no chat template.
    """

    def __init__(
        self,
        name: str,
        revision: str | None = None,
        template_arguments: Mapping[str, Any] | None = None,
        *,
        trust_remote_code: bool = False,
    ) -> None:
        from transformers import AutoTokenizer

        try:
            # Without an explicit trust_remote_code, transformers asks the user on stdin.
            self._tokenizer = AutoTokenizer.from_pretrained(
                name, revision=revision, trust_remote_code=trust_remote_code
            )
        except Exception as error:  # damaged files raise many types; some tokenizer libraries raise Exception itself
            fix = "check the name, or log in with: hf auth login"
            if "trust_remote_code" in str(error):
                fix = "read its code, then use --trust-remote-code; or choose another model"
            raise TeacherError(name, expected="a tokenizer", found=str(error), fix=fix) from error
        if not getattr(self._tokenizer, "chat_template", None):
            raise TeacherError(
                name,
                expected="a tokenizer with a chat template",
                found="no chat template: this is not a chat model",
                fix="use the -Instruct or -chat version of the model",
            )
        self._arguments = dict(template_arguments or {})
        self._control_tokens = tuple(str(token) for token in self._tokenizer.get_added_vocab())
        self._merge_system = not self._knows_system()

    def _knows_system(self) -> bool:
        from jinja2 import TemplateError

        marker = "fsa-system-probe"
        probe = [{"role": "system", "content": marker}, {"role": "user", "content": "x"}]
        try:
            # Some templates raise an error for the system role, others silently leave its message out.
            return marker in self._render(probe)
        except TemplateError:
            return False

    def _render(self, messages: list[dict[str, str]]) -> str:
        rendered = self._tokenizer.apply_chat_template(
            messages, add_generation_prompt=True, tokenize=False, **self._arguments
        )
        assert isinstance(rendered, str)
        return rendered

    def messages(self, request: Request) -> list[Message]:
        """The chat of a request, in the roles that the template knows."""
        return request.prompt.messages(
            request.text, merge_system=self._merge_system, control_tokens=self._control_tokens
        )

    def prompt_text(self, request: Request) -> str:
        """The whole prompt as text, special tokens included."""
        return self._render(self.messages(request))

    def prompt_tokens(self, request: Request) -> list[int]:
        """The whole prompt as token ids; the chat template adds the special tokens."""
        return self._tokenizer.encode(self.prompt_text(request), add_special_tokens=False)

    def count(self, request: Request) -> int:
        return len(self.prompt_tokens(request))
