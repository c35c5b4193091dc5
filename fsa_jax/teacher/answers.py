"""What comes back from a teacher's engine, and the few reasons why nothing may come."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from fsa_jax.reviews.fields import clean_text
from fsa_jax.teacher.generation_requests import Request

TOO_LONG = "too long"
REFUSED = "refused"
CUT_OFF = "cut off"
EMPTY = "empty answer"
ENGINE_ERROR = "engine error"
FAILURES = (TOO_LONG, REFUSED, CUT_OFF, EMPTY, ENGINE_ERROR)
"""Reasons why a generation has no text. A failure is stored as ``reason`` or ``reason: details``."""

DETAIL_CHARACTERS = 300


def failure_reason(failure: str) -> str:
    """The reason in a stored failure, without its details."""
    return failure.partition(":")[0]


@dataclass(frozen=True, slots=True)
class Answer:
    """A teacher's text, or why there is none.

    Attributes:
      text: the whole answer; for CUT_OFF and REFUSED failures whatever came before it stopped.
      failure: None, or one of FAILURES with details.
      redacted: a key has been removed from it.
    """

    text: str | None = None
    failure: str | None = None
    input_tokens: int | None = None
    output_tokens: int | None = None
    redacted: bool = False


def one_line(text: str) -> str:
    """A server's words as a line that any file and terminal can hold; what is long is cut."""
    return " ".join(clean_text(text)[0].split())[:DETAIL_CHARACTERS]


def failed(reason: str, detail: str, input_tokens: int | None = None) -> Answer:
    """An answer without text, for one of FAILURES; long details are cut."""
    return Answer(None, f"{reason}: {one_line(detail)}", input_tokens)


def judge(
    text: str | None, finish_reason: str | None, input_tokens: int | None, output_tokens: int | None, max_tokens: int
) -> Answer:
    """The answer that a finished generation amounts to.

    Args:
      text: what the teacher wrote.
      finish_reason: as OpenAI and vLLM name it: ``stop``, ``length``, ``content_filter`` …
      input_tokens: tokens of the prompt.
      output_tokens: tokens of the text.
      max_tokens: the limit that ``length`` means.
    """
    failure = None
    if finish_reason == "content_filter":
        failure = f"{REFUSED}: content filter"
    elif finish_reason == "length":
        failure = f"{CUT_OFF}: at max_tokens {max_tokens}"
    elif text is None or not text.strip():
        failure = f"{EMPTY}: finished by {one_line(str(finish_reason))}"
    return Answer(text, failure, input_tokens, output_tokens)


class Engine(Protocol):
    """Whatever answers requests: vLLM in this process, or an endpoint.

    Attributes:
      devices: accelerators that it occupies, as far as known; 0 for none or unknown.
      in_flight: requests under way at once that keep it busy.
    """

    devices: int
    in_flight: int

    async def ask(self, request: Request) -> Answer | None:
        """Answers one request; failures that concern this request alone are answers, too.

        Returns:
          None if the engine was told to stop while the request was waiting to be sent.

        Raises:
          TeacherError: nothing can be asked at all.
        """
        ...

    def stop(self) -> None:
        """Sends nothing any more; what has been sent may still be answered."""
        ...

    async def close(self) -> None:
        """Gives back what the engine holds."""
        ...
