"""A teacher behind any OpenAI-compatible server: a running ``vllm serve``, or a hosted model."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any
from urllib.parse import parse_qsl, urljoin, urlsplit

import httpx2
import openai

from fsa_base import untrusted_json
from fsa_base.errors import FsaError, SettingError, TeacherError, require_number
from fsa_jax.reviews.row_to_review import clean_text
from fsa_jax.teacher.answers import ENGINE_ERROR, REFUSED, TOO_LONG, Answer, failed, judge, one_line
from fsa_jax.teacher.generation_requests import Request, Teacher, expected_input_tokens
from fsa_jax.teacher.http_client import BoundedClient, Redactor, proxy_secrets, url_secrets, url_without_secrets
from fsa_jax.teacher.pacing import RateLimiter, backoff, retry_after

IN_FLIGHT = 256
"""Default number of simultaneous requests."""

CONNECTIONS_PER_CLIENT = 16
"""For every request the HTTP library searches all connections of its client, so many small pools beat a large one."""

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

_CHARACTERS_PER_TOKEN = 64
"""An answer with more characters per token of the limit is not a real answer of the model."""

# These loggers write a line for each of a million requests, and their debug log (OPENAI_LOG=debug) has headers with
# keys.
for _name in ("httpx2", "httpcore2", "openai"):
    logging.getLogger(_name).setLevel(logging.WARNING)


@dataclass(frozen=True)
class EndpointSettings:
    """Settings for requests to an endpoint.

    Args:
      url: base URL of the endpoint, such as ``http://host:8000/v1``; user, password and query are sent but never shown.
      api_key: key that is sent as bearer token; servers without keys accept any value.
      timeout: seconds for one attempt, from sending the request to receiving the whole answer.
      max_attempts: number of attempts. Connection errors, time-outs, status 5xx and broken answers count as attempts;
        status 429 counts only if the server does not say how long to wait.
      give_up_after: seconds after which a request fails, whatever the reason for the delay.
      requests_per_minute: limit on requests per minute; None for no limit.
      tokens_per_minute: limit on tokens per minute; None for no limit.
      merge_system: whether to send the system message inside the user message (chat templates without a system role).
      token_limit_field: ``max_tokens``, or ``max_completion_tokens`` for hosted models that require it.
      send_seed: whether to send ``seed``; False for servers that refuse it.
    """

    url: str = field(repr=False)
    api_key: str = field(default="none", repr=False)
    timeout: float = 300.0
    max_attempts: int = 8
    give_up_after: float = 1800.0
    requests_per_minute: float | None = None
    tokens_per_minute: float | None = None
    merge_system: bool = False
    token_limit_field: str = "max_tokens"
    send_seed: bool = True

    def __post_init__(self) -> None:
        try:
            parts = urlsplit(self.url)
            usable = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
            httpx2.URL(self.url)
        except (ValueError, httpx2.InvalidURL):
            usable = False
        if not usable:
            shown = url_without_secrets(self.url)
            raise SettingError(
                "--endpoint", expected="a URL such as http://localhost:8000/v1", found=shown, fix="write the whole URL"
            )
        require_number("--request-timeout", self.timeout, 0, above=True)
        require_number("--max-attempts", self.max_attempts, 1)


class Endpoint:
    """Sends requests to an OpenAI-compatible server, with retries; a ``job.Engine``.

    Errors that no retry can fix raise TeacherError, so that a misconfigured job stops at once: a redirect, a refused
    key, an unknown model, a used-up quota. Until the first answer this also holds for a server that cannot be reached
    or refuses the format of the request; after the first answer such an error is a failure of its request only.

    ``ask`` removes keys and passwords from every answer and error. No other function does.

    Args:
      teacher: model to ask, and its sampling settings.
      settings: how to reach the endpoint.
      in_flight: number of simultaneous requests. If None, IN_FLIGHT.
      proven: whether the endpoint answered in an earlier run.
      say: receives a line if the first request must be sent again, which can take long.
    """

    def __init__(
        self,
        teacher: Teacher,
        settings: EndpointSettings,
        in_flight: int | None = None,
        *,
        proven: bool = False,
        say: Callable[[str], None] = lambda line: None,
    ) -> None:
        self.devices = 0
        self.in_flight = in_flight or IN_FLIGHT
        self._teacher = teacher
        self._settings = settings
        self._limiter = RateLimiter(settings.requests_per_minute, settings.tokens_per_minute)
        self._redact = Redactor([settings.api_key, *url_secrets(settings.url), *proxy_secrets()])
        self._stopping = asyncio.Event()
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
        self._say: Callable[[str], None] | None = say

    async def close(self) -> None:
        for client in self._clients:
            await client.close()

    def stop(self) -> None:
        """Sends no more requests; those that wait to be sent, or to be sent again, are given up."""
        self._stopping.set()

    async def ask(self, request: Request) -> Answer | None:
        """Sends one request, again if needed and as often as the settings allow.

        Returns:
          The answer; None if ``stop`` was called first.

        Raises:
          TeacherError: the endpoint cannot answer any request.
        """
        try:
            answer = await self._ask(request)
        except _StoppedError:
            return None
        except FsaError as error:
            raise self._redact.error(error) from None
        text, failure = (value and self._redact(value) for value in (answer.text, answer.failure))
        return replace(answer, text=text, failure=failure, redacted=text != answer.text)

    async def _wait(self, seconds: float) -> None:
        """Waits for some seconds; raises _StoppedError if the job stops during that time."""
        try:
            await asyncio.wait_for(self._stopping.wait(), seconds)
        except TimeoutError:
            return
        raise _StoppedError

    async def _ask(self, request: Request) -> Answer:
        messages = request.prompt.messages(request.text, merge_system=self._settings.merge_system)
        expected = expected_input_tokens(request) + self._teacher.sampling.max_tokens
        deadline = time.monotonic() + self._settings.give_up_after
        attempt = rejected = 0
        trouble = ""
        wait = 0.0
        while attempt < self._settings.max_attempts and time.monotonic() < deadline:
            if self._stopping.is_set():
                raise _StoppedError
            if trouble and self._say:
                attempts = f"trying again, at most {self._settings.max_attempts} times in all"
                self._say(f"no answer yet: {trouble}; {attempts}")
                self._say = None
            if wait:
                await self._wait(wait)
            await self._limiter.acquire(expected, self._wait)
            try:
                answer = await self._once(request, messages)
            except openai.APIStatusError as error:
                self._stop_if_hopeless(error)
                if (answer := self._final(error)) is not None:
                    return answer
                trouble = self._detail(error)
                asked = retry_after(error.response.headers)
                if error.status_code == 429:
                    # All requests wait as long as the server asks. This one also backs off, because some servers ask
                    # for 0 seconds.
                    self._limiter.pause(asked or 0.0)
                    wait = backoff(rejected)
                    rejected += 1
                    attempt += asked is None
                else:
                    self._limiter.correct(-expected)
                    wait = max(asked or 0.0, backoff(attempt))
                    attempt += 1
            except TimeoutError:
                trouble = f"no complete answer within {self._settings.timeout:g} s"
                wait = backoff(attempt)
                attempt += 1
            except (openai.APIConnectionError, _BrokenAnswer) as error:
                trouble = self._told(f"{type(error).__name__.strip('_')}: {error.__cause__ or error}")
                wait = backoff(attempt)
                attempt += 1
            else:
                self._answered = True
                self._say = None
                used = (answer.input_tokens or 0) + (answer.output_tokens or 0)
                self._limiter.correct(used - expected)
                return answer
        if not self._answered:
            raise TeacherError(
                url_without_secrets(self._settings.url),
                expected="a server that answers",
                found=f"{trouble or 'nothing'} (after {attempt} attempts)",
                fix="start the server, or correct --endpoint; also check the proxy settings (HTTP_PROXY)",
            )
        return failed(ENGINE_ERROR, f"{trouble} (after {attempt} attempts)")

    async def _once(self, request: Request, messages: list[dict[str, str]]) -> Answer:
        body = {**self._fixed, "messages": messages}
        if self._settings.send_seed:
            body["seed"] = request.engine_seed
        client = self._clients[request.engine_seed % len(self._clients)]
        # The typed method of the client would spend a quarter of its time on converting the body, which is not needed.
        async with asyncio.timeout(self._settings.timeout):
            response = await client.post("/chat/completions", cast_to=httpx2.Response, body=body)
        return self._read(response.content)

    def _stop_if_hopeless(self, error: openai.APIStatusError) -> None:
        detail = self._detail(error)
        found, fix = None, ""
        if 300 <= error.status_code < 400:
            address = self._redirected_to(error.response)
            found = f"it redirects to {address}, and redirects are not followed"
            fix = f"if the reviews may go there, use --endpoint {address}"
        elif error.status_code in (401, 403):
            found, fix = "the key is refused", "set the environment variable that --api-key-variable names"
        elif error.status_code == 404:
            found = f"no model {self._teacher.name!r} there, or a wrong address"
            fix = "name a TEACHER that GET /v1/models lists; the address usually ends in /v1"
        elif error.status_code in (402, 429) and any(word in detail for word in _PAID_OUT):
            found = "the account's quota is used up"
            fix = "add credit, or use another key; then run the same command again"
        elif error.status_code in (400, 405, 415, 422) and not self._answered and self._final_reason(error) is None:
            found = "it refuses the format of the requests"
            fix = "try --merge-system, --token-limit-field, --send-seed and --sampling-extra"
        if found:
            raise TeacherError(
                url_without_secrets(self._settings.url),
                expected="a server that answers this key and model",
                found=f"{found}: {detail}",
                fix=fix,
            )

    def _redirected_to(self, response: httpx2.Response) -> str:
        base = url_without_secrets(self._settings.url).rstrip("/")
        try:
            location = urljoin(f"{base}/", response.headers.get("location", ""))
        except ValueError:
            location = "an invalid address"
        return one_line(self._redact(url_without_secrets(location))).removesuffix("/chat/completions")

    def _final_reason(self, error: openai.APIStatusError) -> str | None:
        detail = self._detail(error).casefold()
        if error.status_code == 413 or any(phrase in detail for phrase in _OVERLONG):
            return TOO_LONG
        return REFUSED if any(phrase in detail for phrase in _REFUSALS) else None

    def _final(self, error: openai.APIStatusError) -> Answer | None:
        """The failure for an error that another attempt would meet again; None for an error that may pass."""
        if error.status_code in _PAUSE or error.status_code >= 500:
            return None
        return failed(self._final_reason(error) or ENGINE_ERROR, self._detail(error))

    def _detail(self, error: openai.APIStatusError) -> str:
        code = error.code if isinstance(error.code, str) else ""
        return self._told(f"{error.status_code} {code} {error.message}")

    def _told(self, text: str) -> str:
        # Redacted before the text is cut, because half a key is not recognised.
        return one_line(self._redact(text))

    def _read(self, content: bytes) -> Answer:
        max_tokens = self._teacher.sampling.max_tokens
        try:
            body = untrusted_json.parse(content, lone_surrogates=True)
            choice = body["choices"][0]
            message = choice["message"]
            text, refusal = message.get("content"), message.get("refusal")
            finish_reason = choice.get("finish_reason")
            usage = body.get("usage") or {}
            counts = [usage.get(name) for name in ("prompt_tokens", "completion_tokens")]
        except (ValueError, KeyError, IndexError, TypeError, AttributeError) as error:
            reason = f"{error.reason}: " if isinstance(error, untrusted_json.UntrustedJsonError) else ""
            start = self._told(content[:16_384].decode(errors="replace"))[:80]
            raise _BrokenAnswer(f"not a chat completion: {reason}{start!r}") from None
        if not all(count is None or (type(count) is int and 0 <= count < 2**31) for count in counts):
            raise _BrokenAnswer(f"token counts {counts}")
        if not isinstance(text, str | None):
            raise _BrokenAnswer(f"content of type {type(text).__name__}")
        if text and len(text) > max_tokens * _CHARACTERS_PER_TOKEN:
            raise _BrokenAnswer(f"{len(text):,} characters, for at most {max_tokens} tokens")
        if refusal and not text:
            said = self._redact(clean_text(str(refusal))[0])[: max_tokens * _CHARACTERS_PER_TOKEN]
            return Answer(said, REFUSED, counts[0], counts[1])
        reason = finish_reason and self._redact(str(finish_reason))  # before it is cut, perhaps in the middle of a key
        return judge(text and clean_text(text)[0], reason, counts[0], counts[1], max_tokens)


def _client(settings: EndpointSettings) -> openai.AsyncOpenAI:
    # Requests are assigned to clients at random; the spare connections avoid a queue at one while another is idle.
    limits = httpx2.Limits(max_connections=2 * CONNECTIONS_PER_CLIENT)
    address, _, query = settings.url.partition("#")[0].partition("?")
    try:
        http_client = BoundedClient(limits=limits, timeout=settings.timeout)
    except (ValueError, httpx2.InvalidURL, ImportError):
        # The original error message would show the proxy's password.
        raise SettingError(
            "a proxy in the environment (HTTP_PROXY, HTTPS_PROXY, ALL_PROXY)",
            expected="a URL such as http://user:password@host:3128",
            found="a URL that cannot be used",
            fix="write the whole URL, or unset the variable",
        ) from None
    return openai.AsyncOpenAI(
        api_key=settings.api_key,
        base_url=address,
        default_query=dict(parse_qsl(query)),
        max_retries=0,  # retries are made in _ask, which knows the rate limits and shares the pauses
        http_client=http_client,
    )


class _BrokenAnswer(Exception):
    """A response with status 200 whose body is not a chat completion."""


class _StoppedError(Exception):
    """The job stopped while a request was waiting to be sent."""
