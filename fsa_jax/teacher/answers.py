"""The answers of a teacher's engine, and the reasons why an answer may have no text."""

from __future__ import annotations

from dataclasses import dataclass

from fsa_jax.reviews.row_to_review import clean_text

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
    """A teacher's text, or the reason why there is none.

    Attributes:
      text: the whole answer; for CUT_OFF and REFUSED failures the text up to the point where it stopped.
      failure: None, or one of FAILURES with details.
      redacted: whether an API key was removed from the text.
    """

    text: str | None = None
    failure: str | None = None
    input_tokens: int | None = None
    output_tokens: int | None = None
    redacted: bool = False


def one_line(text: str) -> str:
    """A server's message as one line that is safe to print and to store; long messages are cut."""
    return " ".join(clean_text(text)[0].split())[:DETAIL_CHARACTERS]


def failed(reason: str, detail: str, input_tokens: int | None = None) -> Answer:
    """An answer without text, for one of FAILURES; long details are cut."""
    return Answer(None, f"{reason}: {one_line(detail)}", input_tokens)


def judge(
    text: str | None, finish_reason: str | None, input_tokens: int | None, output_tokens: int | None, max_tokens: int
) -> Answer:
    """Turns a finished generation into an Answer: a text, or a failure with its reason.

    Args:
      text: the text that the teacher wrote.
      finish_reason: the reason that OpenAI or vLLM gave: ``stop``, ``length``, ``content_filter`` …
      input_tokens: number of tokens of the prompt.
      output_tokens: number of tokens of the text.
      max_tokens: the token limit of the request; ``length`` means that it was reached.
    """
    failure = None
    if finish_reason == "content_filter":
        failure = f"{REFUSED}: content filter"
    elif finish_reason == "length":
        failure = f"{CUT_OFF}: at max_tokens {max_tokens}"
    elif text is None or not text.strip():
        failure = f"{EMPTY}: finished by {one_line(str(finish_reason))}"
    return Answer(text, failure, input_tokens, output_tokens)
