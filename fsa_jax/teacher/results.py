"""What ``teach`` returns."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from fsa_jax.common.records import Understanding
from fsa_jax.reviews.source import Losses
from fsa_jax.teacher.cost import Prices
from fsa_jax.teacher.estimate import Estimate
from fsa_jax.teacher.generation_requests import Message
from fsa_jax.text.analysis import Analysis


@dataclass(frozen=True)
class PreviewedRequest:
    """One request of a preview, with what the store has of it.

    Attributes:
      review_id: id of the review.
      prompt: name of the prompt.
      understanding: the form of teacher text that it asks for.
      messages: the chat as the model gets it.
      text: the answer; for some failures the text up to the point where it stopped.
      failure: why there is no answer, with details; None for an answer.
      stored_before: whether it was in the store already, so that this call did not send it.
      analysis: what the parser of ``fsa check`` reads in the answer; None for a rewriting or a failure.
    """

    review_id: str
    prompt: str
    understanding: Understanding
    messages: tuple[Message, ...]
    text: str | None
    failure: str | None
    stored_before: bool
    analysis: Analysis | None


@dataclass(frozen=True)
class Preview:
    """The first requests of a job with their answers.

    Attributes:
      requests: the requests, in their order in the job; those that were interrupted are missing.
      input_tokens: input tokens of these requests.
      output_tokens: output tokens of these requests.
      cost: cost of these requests; None if no prices are known.
      fastest_seconds: duration of the missing requests if the engine answers all requests in flight as fast as these;
        None if it is not known or if the store has enough answers for a real measurement.
    """

    requests: tuple[PreviewedRequest, ...]
    input_tokens: int
    output_tokens: int
    cost: float | None
    fastest_seconds: float | None


@dataclass(frozen=True)
class TeachResult:
    """What a call of ``teach`` has done.

    Attributes:
      done: number of answers that this call stored.
      failures: number of failures that this call stored, by reason.
      skipped: number of requests whose answers were stored before.
      input_tokens: input tokens of this call.
      output_tokens: output tokens of this call.
      seconds: duration of the job.
      cost: cost of this call, accelerators included; None if no prices are known.
      prices: the prices of this call; None if none are known.
      stopped: why the job ended before all requests were done; None if all are done.
      unanswered: number of requests that were sent but not waited for; they will be sent and paid again.
      redacted: number of answers from which an API key was removed.
      losses: reviews that were not asked about, and reviews that were fixed, by reason.
      estimate: with ``dry_run`` or ``preview``, the estimate for the requests that are still missing.
      preview: with ``preview``, the first requests and their answers.
    """

    done: int = 0
    failures: Mapping[str, int] = field(default_factory=dict)
    skipped: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    seconds: float = 0.0
    cost: float | None = None
    prices: Prices | None = None
    stopped: str | None = None
    unanswered: int = 0
    redacted: int = 0
    losses: Losses = field(default_factory=Losses)
    estimate: Estimate | None = None
    preview: Preview | None = None

    @property
    def remarks(self) -> list[str]:
        """Lines about requests that are paid again, and about answers that were changed."""
        lines = []
        if self.redacted:
            lines.append(f"{self.redacted:,} answers had the API key in them; it is removed from the stored text")
        if self.unanswered:
            lines.append(f"{self.unanswered:,} requests were sent but not waited for: they are sent and paid again")
        return lines

    @property
    def failed(self) -> int:
        """Number of failures that this call stored."""
        return sum(self.failures.values())
