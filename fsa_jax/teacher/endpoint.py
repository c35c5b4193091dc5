"""A teacher behind any OpenAI-compatible server: a running ``vllm serve``, or a hosted model."""

from __future__ import annotations

import asyncio
import json
import logging
import time
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import httpx2
import openai

from fsa_jax.errors import SettingError, TeacherError
from fsa_jax.sampling.fields import clean_text
from fsa_jax.teacher.answers import DETAIL_CHARACTERS, ENGINE_ERROR, REFUSED, TOO_LONG, Answer, failed, judge
from fsa_jax.teacher.pacing import RateLimiter, backoff, retry_after
from fsa_jax.teacher.requests import Request, Teacher, expected_input_tokens

IN_FLIGHT = 256
"""Requests under way at once where nobody says otherwise."""

CONNECTIONS_PER_CLIENT = 16
"""The HTTP library looks through all connections of a client for every request: many small pools, not a large one."""

_PAUSE = (408, 409, 425, 429)
_PAID_OUT = ("insufficient_quota", "billing_hard_limit_reached", "billing_not_active", "credit balance")
_REFUSALS = ("content_filter", "content_policy", "content management policy", "safety")
_OVERLONG = (
    "context length",
    "context_length",
    "maximum context",
    "max_model_len",
    "maximum model length",
    "too long",
    "too many tokens",
    "longer than",
)

# One line for each of a million requests is no log.
logging.getLogger("httpx2").setLevel(logging.WARNING)


@dataclass(frozen=True)
class EndpointSettings:
    """How to reach an endpoint.

    Args:
      url: its base, ``http://host:8000/v1``.
      api_key: sent as bearer token; servers without one take anything.
      timeout: seconds for one attempt, from sending to having the whole answer.
      max_attempts: attempts after connection errors, time-outs, 5xx and broken answers; 429 does not count.
      give_up_after: seconds after which a request fails whatever keeps it waiting.
      requests_per_minute: None for no limit.
      tokens_per_minute: None for no limit.
      merge_system: sends no system message (chat templates without that role).
      token_limit_field: ``max_tokens``, or ``max_completion_tokens`` for hosted models that insist on it.
      send_seed: False for servers that refuse ``seed``.
    """

    url: str
    api_key: str = "none"
    timeout: float = 300.0
    max_attempts: int = 8
    give_up_after: float = 1800.0
    requests_per_minute: float | None = None
    tokens_per_minute: float | None = None
    merge_system: bool = False
    token_limit_field: str = "max_tokens"
    send_seed: bool = True

    def __post_init__(self) -> None:
        parts = urlsplit(self.url)
        if parts.scheme not in ("http", "https") or not parts.netloc:
            raise SettingError(
                "--endpoint", expected="a URL such as http://localhost:8000/v1", found=self.url, fix="write it whole"
            )


class Endpoint:
    """Asks an OpenAI-compatible server, with retries; an ``answers.Engine``.

    Errors that no retry fixes (key refused, model unknown, quota used up, and, as long as nothing has ever been
    answered, a server that cannot be reached or refuses the form of the request) raise TeacherError: a job must stop
    on its first day, not on its last. The same errors after a first answer are failures of their request.

    Args:
      teacher: the model to ask for, and how it draws.
      settings: how to reach it.
      in_flight: requests that will be under way at once; None takes IN_FLIGHT.
      proven: whether it has answered before, in an earlier run.
    """

    def __init__(
        self, teacher: Teacher, settings: EndpointSettings, in_flight: int | None = None, *, proven: bool = False
    ) -> None:
        self.devices = 0
        self.in_flight = in_flight or IN_FLIGHT
        self._teacher = teacher
        self._settings = settings
        self._limiter = RateLimiter(settings.requests_per_minute, settings.tokens_per_minute)
        self._clients = [_client(settings) for _ in range(-(-self.in_flight // CONNECTIONS_PER_CLIENT))]
        sampling = teacher.sampling
        self._fixed: dict[str, Any] = {
            "model": teacher.name,
            "temperature": sampling.temperature,
            "top_p": sampling.top_p,
            settings.token_limit_field: sampling.max_tokens,
        }
        self._fixed |= sampling.extra
        self._answered = proven

    async def close(self) -> None:
        for client in self._clients:
            await client.close()

    async def ask(self, request: Request) -> Answer:
        """One answer, after as many attempts as it takes and the settings allow.

        Raises:
          TeacherError: nothing can be asked at all.
        """
        messages = request.prompt.messages(request.text, merge_system=self._settings.merge_system)
        expected = expected_input_tokens(request) + self._teacher.sampling.max_tokens
        deadline = time.monotonic() + self._settings.give_up_after
        attempt = 0
        trouble = ""
        while attempt < self._settings.max_attempts and time.monotonic() < deadline:
            await self._limiter.acquire(expected)
            try:
                answer = await self._once(request, messages)
            except openai.APIStatusError as error:
                self._stop_if_hopeless(error)
                if (answer := self._final(error)) is not None:
                    return answer
                trouble = _detail(error)
                wait = retry_after(error.response.headers)
                if error.status_code == 429:
                    self._limiter.pause(wait if wait is not None else backoff(attempt))
                    attempt += wait is None
                else:
                    self._limiter.correct(-expected)
                    await asyncio.sleep(wait if wait is not None else backoff(attempt))
                    attempt += 1
            except (openai.APIConnectionError, _BrokenAnswer) as error:
                trouble = f"{type(error).__name__.strip('_')}: {error.__cause__ or error}"
                await asyncio.sleep(backoff(attempt))
                attempt += 1
            else:
                self._answered = True
                used = (answer.input_tokens or 0) + (answer.output_tokens or 0)
                self._limiter.correct(used - expected)
                return answer
        if not self._answered:
            raise TeacherError(
                self._settings.url,
                expected="a server that answers",
                found=f"{trouble or 'nothing'} (after {attempt} attempts)",
                fix="start it, or correct --endpoint; a proxy in the environment (HTTP_PROXY) may stand between",
            )
        return failed(ENGINE_ERROR, f"{trouble} (after {attempt} attempts)")

    async def _once(self, request: Request, messages: list[dict[str, str]]) -> Answer:
        body = {**self._fixed, "messages": messages}
        if self._settings.send_seed:
            body["seed"] = request.engine_seed
        client = self._clients[request.engine_seed % len(self._clients)]
        # The typed method would spend a quarter of its time on transforming a body that is right already.
        response = await client.post("/chat/completions", cast_to=httpx2.Response, body=body)
        return _read(response.content, self._teacher.sampling.max_tokens)

    def _stop_if_hopeless(self, error: openai.APIStatusError) -> None:
        detail = _detail(error)
        found, fix = None, ""
        if error.status_code in (401, 403):
            found, fix = "the key is refused", "set the environment variable that --api-key-variable names"
        elif error.status_code == 404:
            found = f"no model {self._teacher.name!r} there, or no such address"
            fix = "name a model of GET /v1/models with --teacher; the address usually ends in /v1"
        elif error.status_code in (402, 429) and any(word in detail for word in _PAID_OUT):
            found, fix = "the account's quota is used up", "pay, or use another key; then run the same command again"
        elif error.status_code in (400, 405, 415, 422) and not self._answered and self._final_reason(error) is None:
            found = "it refuses the form of the requests"
            fix = "see --merge-system, --token-limit-field, --send-seed and --sampling-extra"
        if found:
            raise TeacherError(
                self._settings.url,
                expected="a server that answers this key and model",
                found=f"{found}: {detail}",
                fix=fix,
            )

    @staticmethod
    def _final_reason(error: openai.APIStatusError) -> str | None:
        detail = _detail(error).casefold()
        if error.status_code == 413 or any(phrase in detail for phrase in _OVERLONG):
            return TOO_LONG
        return REFUSED if any(phrase in detail for phrase in _REFUSALS) else None

    def _final(self, error: openai.APIStatusError) -> Answer | None:
        """The failure that an error amounts to where another attempt would meet the same."""
        if error.status_code in _PAUSE or error.status_code >= 500:
            return None
        return failed(self._final_reason(error) or ENGINE_ERROR, _detail(error))


def _client(settings: EndpointSettings) -> openai.AsyncOpenAI:
    # Requests fall on the clients by chance; the margin keeps them from queueing at one while another is idle.
    limits = httpx2.Limits(max_connections=2 * CONNECTIONS_PER_CLIENT, max_keepalive_connections=CONNECTIONS_PER_CLIENT)
    return openai.AsyncOpenAI(
        api_key=settings.api_key,
        base_url=settings.url,
        max_retries=0,  # ours know the rate limits and share their pauses
        http_client=openai.DefaultAsyncHttpxClient(limits=limits, timeout=settings.timeout),
    )


class _BrokenAnswer(Exception):
    """A 200 whose body is no chat completion."""


def _read(content: bytes, max_tokens: int) -> Answer:
    try:
        body = json.loads(content)
        choice = body["choices"][0]
        message = choice["message"]
        text, refusal = message.get("content"), message.get("refusal")
        finish_reason = choice.get("finish_reason")
        usage = body.get("usage") or {}
        counts = [usage.get(name) for name in ("prompt_tokens", "completion_tokens")]
    except (ValueError, KeyError, IndexError, TypeError, AttributeError) as error:
        raise _BrokenAnswer(f"no chat completion: {content[:80]!r}") from error
    if not all(count is None or (isinstance(count, int) and 0 <= count < 2**31) for count in counts):
        raise _BrokenAnswer(f"token counts {counts}")
    if not isinstance(text, str | None):
        raise _BrokenAnswer(f"content of type {type(text).__name__}")
    if refusal and not text:
        return Answer(clean_text(str(refusal))[0], REFUSED, *counts)
    return judge(text and clean_text(text)[0], finish_reason, counts[0], counts[1], max_tokens)


def _detail(error: openai.APIStatusError) -> str:
    return f"{error.status_code} {' '.join(error.message.split())}"[:DETAIL_CHARACTERS]
