"""A test server in its own process."""

from __future__ import annotations

import json
import urllib.request


class ServerProcess:
    """A running test server."""

    def __init__(self, port: str) -> None:
        self.root = f"http://127.0.0.1:{port}"
        self.url = f"{self.root}/v1"

    def counts(self) -> dict[str, int]:
        with urllib.request.urlopen(f"{self.root}/count") as response:
            return json.load(response)
