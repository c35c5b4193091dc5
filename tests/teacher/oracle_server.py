"""An OpenAI-compatible server whose teacher is the oracle of the generated world."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from fsa_jax.synthetic.oracle import Oracle
from fsa_jax.synthetic.world import KnownReview


@contextmanager
def oracle_server(reviews: Iterable[KnownReview], oracle: Oracle) -> Iterator[str]:
    """Serves answers to both prompts about ``reviews``; yields the address for ``--endpoint``."""
    known = {review.review.text: review for review in reviews}

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self._send({"object": "list", "data": [{"id": "oracle", "object": "model"}]})

        def do_POST(self) -> None:
            request = json.loads(self.rfile.read(int(self.headers["content-length"])))
            prompt = "\n".join(message["content"] for message in request["messages"])
            review = next(review for text, review in known.items() if text in prompt)
            answer = oracle.write(review, "rewriting" if "Retell" in prompt else "analysis") or "No opinion."
            usage = {"prompt_tokens": len(prompt) // 4, "completion_tokens": len(answer) // 4}
            choice = {"index": 0, "message": {"role": "assistant", "content": answer}, "finish_reason": "stop"}
            self._send({"id": "1", "object": "chat.completion", "model": "oracle", "choices": [choice], "usage": usage})

        def _send(self, body: dict) -> None:
            data = json.dumps(body).encode()
            self.send_response(200)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}/v1"
    finally:
        server.shutdown()
        server.server_close()
