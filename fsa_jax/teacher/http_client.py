"""An HTTP client that protects against bad servers: no redirects, no large bodies, one answer per connection."""

from __future__ import annotations

import ssl
from functools import cache
from typing import Any

import httpx2

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
