"""An HTTP client that protects against bad servers, and keeps keys and passwords out of what they send back.

It follows no redirects, reads no large bodies, and takes one answer per connection. Keys are read from the environment
and checked; they are removed from every text that a server sends.
"""

from __future__ import annotations

import base64
import html
import os
import re
import ssl
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

import httpx2

from fsa_base.errors import FsaError, SettingError

BODY_BYTES = 4 << 20
"""Largest decompressed body of an answer; an answer of 768 tokens has about 5 KB."""

ERROR_BYTES = 1 << 16
"""Largest part of an error's body that is read; the rest is cut off."""


class BoundedClient(httpx2.AsyncClient):
    """A client that never follows redirects, reads at most BODY_BYTES, and uses a connection for one request only.

    If a server or proxy sends an answer twice, the second copy would be read as the answer to the next request on the
    same connection, because HTTP answers carry no request number.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(**options, verify=_certificates(), follow_redirects=False)
        self.headers["Connection"] = "close"

    async def send(
        self,
        request: httpx2.Request,
        *,
        stream: bool = False,
        auth: Any = httpx2.USE_CLIENT_DEFAULT,
        follow_redirects: Any = False,
    ) -> httpx2.Response:
        """Sends a request and reads the whole answer, also if ``stream`` is True.

        Raises:
          httpx2.HTTPError: there is no connection or no valid HTTP, or the body is too large or cannot be decompressed.
        """
        response = await super().send(request, stream=True, auth=auth, follow_redirects=False)
        body = bytearray()
        try:
            async for piece in response.aiter_bytes():
                body += piece
                if not response.is_success and len(body) > ERROR_BYTES:
                    del body[ERROR_BYTES:]
                    break
                if len(body) > BODY_BYTES:
                    raise httpx2.ReadError(f"a body of over {BODY_BYTES >> 20} MiB", request=request)
        finally:
            await response.aclose()
        headers = [(name, value) for name, value in response.headers.raw if name.lower() not in _OF_THE_TRANSFER]
        return httpx2.Response(response.status_code, headers=headers, content=bytes(body), request=request)


@cache
def _certificates() -> ssl.SSLContext:
    # Cached, because reading the certificates is slow and a job has many clients.
    return httpx2.create_ssl_context()


_OF_THE_TRANSFER = (b"content-encoding", b"content-length", b"transfer-encoding")


REMOVED = "[key removed]"

SHORTEST = 8
"""Only secrets of at least this many characters are removed. Shorter ones are placeholders (``none``, ``EMPTY``) or
ordinary words."""

_SECRET_PARAMETER = re.compile("key|token|secret|sig|auth|pass|code|credential", re.IGNORECASE)
_PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY")


def read_api_key(variable: str, environment: Mapping[str, str] = os.environ) -> str | None:
    """The key in an environment variable, without surrounding white space; None if the variable is not set.

    Raises:
      SettingError: the key has characters that an HTTP header cannot hold. The error does not show the key.
    """
    key = environment.get(variable, "").strip()
    bad = next((i for i, character in enumerate(key) if not "!" <= character <= "~"), None)
    if bad is not None:
        what = "white space" if key[bad].isspace() else "a control character" if key[bad] < "\x7f" else "non-ASCII"
        raise SettingError(
            f"the environment variable {variable}",
            expected="a key of visible ASCII characters",
            found=f"{what} at character {bad + 1} of {len(key)}",
            fix="copy the key again, without line ends and quotes",
        )
    return key or None


def url_without_secrets(url: str) -> str:
    """A URL that is safe to show: without user, password, query and fragment."""
    return re.sub(r"^([^/?#]*//)?[^/?#]*@", r"\1", re.split("[?#]", url, maxsplit=1)[0])


def url_secrets(url: str) -> list[str]:
    """The secrets in a URL (``user:password@`` and ``?key=``): as written, decoded, and as HTTP sends them."""
    try:
        parts = urlsplit(url)
        user, password = parts.username, parts.password
    except ValueError:
        return []
    found = [value for name, value in parse_qsl(parts.query) if _SECRET_PARAMETER.search(name)]
    if user is not None:
        # Some services expect a token in place of the user name.
        secret = password or user
        basic = f"{unquote(user)}:{unquote(password or '')}"
        found += [secret, unquote(secret), base64.b64encode(basic.encode()).decode().rstrip("=")]
    return found


def proxy_secrets(environment: Mapping[str, str] = os.environ) -> list[str]:
    """The passwords of the proxies in the environment."""
    urls = (environment.get(name, "") for proxy in _PROXIES for name in (proxy, proxy.lower()))
    return [secret for url in urls for secret in url_secrets(url)]


@dataclass
class Redactor:
    """Replaces secrets in texts, also if they are escaped for URLs, JSON, HTML or Python, or encoded in base64.

    Attributes:
      secrets: strings that must not be shown; those shorter than SHORTEST are not replaced.
    """

    secrets: Iterable[str]
    _pattern: re.Pattern[str] | None = field(init=False, default=None)
    _plain: tuple[str, ...] = field(init=False, default=())

    def __post_init__(self) -> None:
        secrets = {secret for secret in self.secrets if len(secret) >= SHORTEST}
        secrets |= {base64.b64encode(secret.encode()).decode().rstrip("=") for secret in secrets}
        if secrets:
            # The longest first, because one secret may be the beginning of another.
            ordered = sorted(secrets, key=len, reverse=True)
            self._plain = tuple(secret.casefold() for secret in ordered)
            self._pattern = re.compile("|".join("".join(map(_forms, secret)) for secret in ordered), re.IGNORECASE)

    def __call__(self, text: str) -> str:
        """Returns the text without secrets."""
        if self._pattern is None:
            return text
        # Most texts have no escapes; for them this test is a hundred times faster than the pattern.
        if not any(sign in text for sign in "%\\&"):
            folded = text.casefold()
            if not any(secret in folded for secret in self._plain):
                return text
        return self._pattern.sub(REMOVED, text)

    def error(self, error: FsaError) -> FsaError:
        """Returns the same error without secrets."""
        return type(error)(
            self(error.where), expected=self(error.expected), found=self(error.found), fix=self(error.fix)
        )


def _forms(character: str) -> str:
    """A pattern for one character, plain or escaped. Its repetitions are bounded, so that no text is slow to match."""
    code = ord(character)
    escaped = rf"\\{{1,4}}(?:u00{code:02x}|x{code:02x}|{re.escape(character)})"
    named = "|".join(map(re.escape, {character, html.escape(character)}))
    return rf"(?:{named}|%(?:25)?{code:02x}|{escaped}|&#0{{0,4}}{code};|&#x0{{0,4}}{code:x};)"
