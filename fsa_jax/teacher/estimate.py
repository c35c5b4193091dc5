"""Estimates the cost of a job before it runs: input tokens from a sample, output length and speed from the store."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from fsa_jax.teacher.cost import Bill, Bills, Prices
from fsa_jax.teacher.generation_requests import CHARACTERS_PER_TOKEN, Prompt, Request, RequestMaker
from fsa_jax.teacher.job import JobSettings

SAMPLE = 500
"""Number of requests per prompt whose tokens are counted."""

ENOUGH = 20
"""Number of answers that the store must have before its lengths and speed are used."""


@dataclass
class PromptEstimate:
    """The estimate for the missing requests of one prompt.

    Attributes:
      requests: number of missing requests.
      input_tokens: input tokens of all of them, extrapolated from the sample.
      output_tokens: output tokens of all of them.
      measured: whether the output length comes from answers in the store; otherwise it comes from the prompt's file.
    """

    prompt: Prompt
    requests: int = 0
    input_tokens: float = 0.0
    output_tokens: float = 0.0
    measured: bool = False


@dataclass
class Estimate:
    """The estimate for a whole job.

    Attributes:
      prompts: the estimates of the prompts.
      too_long: number of requests that will fail without a cost, because their reviews are too long.
      seconds: duration on one shard; None if the speed is unknown: set it, or generate a few answers first.
      device_seconds: ``seconds`` times the number of accelerators.
      speed_from: number of answers from whose time ``seconds`` comes; None if the user gave the speed.
      counted_by: what the input tokens are counted with.
    """

    prompts: list[PromptEstimate]
    too_long: int
    seconds: float | None
    device_seconds: float
    speed_from: int | None = None
    counted_by: str = ""

    @property
    def requests(self) -> int:
        return sum(prompt.requests for prompt in self.prompts)

    @property
    def input_tokens(self) -> float:
        return sum(prompt.input_tokens for prompt in self.prompts)

    @property
    def output_tokens(self) -> float:
        return sum(prompt.output_tokens for prompt in self.prompts)

    def cost(self, prices: Prices) -> float:
        return prices.tokens(self.input_tokens, self.output_tokens) + prices.devices(self.device_seconds)


class _Sample:
    """A uniform random sample of a stream (reservoir sampling)."""

    def __init__(self, rng: random.Random) -> None:
        self.requests: list[Request] = []
        self.count = 0
        self._rng = rng

    def add(self, request: Request) -> None:
        self.count += 1
        if len(self.requests) < SAMPLE:
            self.requests.append(request)
        elif (at := self._rng.randrange(self.count)) < SAMPLE:
            self.requests[at] = request


def estimate(
    batches: Iterable[list[Request]],
    maker: RequestMaker,
    settings: JobSettings,
    count_input: Callable[[Request], int],
    past: Bills,
    *,
    tokens_per_second: float | None = None,
    devices: int = 0,
    seed: int = 0,
    enough: int = ENOUGH,
) -> Estimate:
    """Estimates a job of these requests.

    Args:
      batches: the missing requests.
      maker: the RequestMaker that made them.
      settings: settings of the job; too long reviews cost nothing.
      count_input: function that counts the input tokens of one request.
      past: bills of the same teacher, by teacher and prompt; empty if it has not answered before.
      tokens_per_second: speed in output tokens per second. If None, the speed in ``past``.
      devices: number of accelerators that the engine will use.
      seed: random seed of the sample.
      enough: number of answers that ``past`` must have before its lengths and speed are used.
    """
    rng = random.Random(seed)
    samples = {prompt.hash: _Sample(rng) for prompt in maker.prompts}
    too_long = 0
    for batch in batches:
        for request in batch:
            if len(request.text) > settings.max_review_characters:
                too_long += 1
            else:
                samples[request.prompt.hash].add(request)
    by_prompt = {prompt: bill for (_, prompt), bill in past.items()}
    prompts = []
    for prompt in maker.prompts:
        sample = samples[prompt.hash]
        mean_input = sum(map(count_input, sample.requests)) / max(1, len(sample.requests))
        mean_output, measured = _mean_output(prompt, by_prompt.get(prompt.name), enough)
        mean_output = min(mean_output, maker.teacher.sampling.max_tokens)
        prompts.append(
            PromptEstimate(prompt, sample.count, sample.count * mean_input, sample.count * mean_output, measured)
        )
    speed = tokens_per_second or _past_speed(past, enough)
    result = Estimate(prompts, too_long, None, 0.0)
    if speed:
        result.seconds = result.output_tokens / speed
        result.device_seconds = result.seconds * devices
        if not tokens_per_second:
            result.speed_from = sum(bill.answers for bill in past.values())
    return result


def _mean_output(prompt: Prompt, bill: Bill | None, enough: int) -> tuple[float, bool]:
    # Some servers do not count tokens.
    if bill is not None and bill.answers >= enough and bill.output_tokens:
        return bill.output_tokens / bill.requests, True
    return prompt.expected_characters / CHARACTERS_PER_TOKEN, False


def _past_speed(past: Bills, enough: int) -> float | None:
    seconds = sum(bill.seconds for bill in past.values())
    answers = sum(bill.answers for bill in past.values())
    tokens = sum(bill.output_tokens for bill in past.values())
    return tokens / seconds if answers >= enough and seconds and tokens else None
