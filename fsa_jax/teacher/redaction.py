"""Keys and passwords: read from the environment, checked, and removed from whatever a server sends back."""

from __future__ import annotations

import base64
import html
import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from urllib.parse import parse_qsl, unquote, urlsplit

from fsa_base.errors import FsaError, SettingError

REMOVED = "[key removed]"

SHORTEST = 8
"""Characters of a secret that is removed. A shorter one is a placeholder (``none``, ``EMPTY``), or an ordinary word."""

_SECRET_PARAMETER = re.compile("key|token|secret|sig|auth|pass|code|credential", re.IGNORECASE)
_PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY")


def read_api_key(variable: str, environment: Mapping[str, str] = os.environ) -> str | None:
    """The key in an environment variable without white space around it; None where there is none.

    Raises:
      SettingError: it holds what no HTTP header can; the error does not show the key.
    """
    key = environment.get(variable, "").strip()
    bad = next((i for i, character in enumerate(key) if not "!" <= character <= "~"), None)
    if bad is not None:
        what = "white space" if key[bad].isspace() else "a control character" if key[bad] < "\x7f" else "no ASCII"
        raise SettingError(
            f"the environment variable {variable}",
            expected="a key of visible ASCII characters",
            found=f"{what} at character {bad + 1} of {len(key)}",
            fix="copy the key again, without line ends and quotes",
        )
    return key or None


def url_without_secrets(url: str) -> str:
    """A URL as it may be shown: without user, password, query and fragment."""
    return re.sub(r"^([^/?#]*//)?[^/?#]*@", r"\1", re.split("[?#]", url, maxsplit=1)[0])


def url_secrets(url: str) -> list[str]:
    """The passwords in a URL, as they stand there, decoded and as HTTP sends them: ``user:password@`` and ``?key=``."""
    try:
        parts = urlsplit(url)
        user, password = parts.username, parts.password
    except ValueError:
        return []
    found = [value for name, value in parse_qsl(parts.query) if _SECRET_PARAMETER.search(name)]
    if user is not None:
        # Some services take a token as the user.
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
    """Replaces secrets in texts, also where they are escaped for URLs, JSON, HTML or Python, or are in base64.

    Attributes:
      secrets: what must not be shown; those under SHORTEST characters stay.
    """

    secrets: Iterable[str]
    _pattern: re.Pattern[str] | None = field(init=False, default=None)
    _plain: tuple[str, ...] = field(init=False, default=())

    def __post_init__(self) -> None:
        secrets = {secret for secret in self.secrets if len(secret) >= SHORTEST}
        secrets |= {base64.b64encode(secret.encode()).decode().rstrip("=") for secret in secrets}
        if secrets:
            # The longest first: a secret may begin with another one.
            ordered = sorted(secrets, key=len, reverse=True)
            self._plain = tuple(secret.casefold() for secret in ordered)
            self._pattern = re.compile("|".join("".join(map(_forms, secret)) for secret in ordered), re.IGNORECASE)

    def __call__(self, text: str) -> str:
        """Returns the text without secrets."""
        if self._pattern is None:
            return text
        # Nearly every text is of this kind, and the pattern takes a hundred times as long.
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
    """A pattern for one character, as it is or escaped; bounded, so that no text takes long."""
    code = ord(character)
    escaped = rf"\\{{1,4}}(?:u00{code:02x}|x{code:02x}|{re.escape(character)})"
    named = "|".join(map(re.escape, {character, html.escape(character)}))
    return rf"(?:{named}|%(?:25)?{code:02x}|{escaped}|&#0{{0,4}}{code};|&#x0{{0,4}}{code:x};)"
