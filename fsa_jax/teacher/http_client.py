"""An HTTP client that bounds what a server can do: no redirects, no large bodies, no second answer on a connection."""

from __future__ import annotations

import ssl
from functools import cache
from typing import Any

import httpx2

BODY_BYTES = 4 << 20
"""Largest body of an answer, unpacked; one of 768 tokens has some 5 KB."""

ERROR_BYTES = 1 << 16
"""As much of the body of an error is read; the rest is cut off."""


class BoundedClient(httpx2.AsyncClient):
    """Follows no redirect, whatever it is told; reads no more than BODY_BYTES; uses a connection for one request only.

    A server, or a proxy before it, that sends an answer twice would have the second one read as the answer to the next
    request on the same connection: HTTP has nothing to tell them apart by.
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
        """Sends a request and reads the whole answer, whether it is asked for as a stream or not.

        Raises:
          httpx2.HTTPError: no connection, no HTTP, or a body that is too large or cannot be unpacked.
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
    # Reading them takes long for a job of many clients.
    return httpx2.create_ssl_context()


_OF_THE_TRANSFER = (b"content-encoding", b"content-length", b"transfer-encoding")
