"""A fast OpenAI-compatible server without a model, which can produce the errors of real servers.

    python benchmarks/teacher_server.py --port 0 --fail 0.05 --stall 0.01 --broken 0.05 --cut 0.05

It prints the port on which it listens. The text of an answer depends only on the request (its messages and seed), so
that two answers to a request can be compared. Errors are random, but determined by ``--seed`` and the number of the
request. Addresses: POST /v1/chat/completions, GET /v1/models, GET /count (number of requests and errors so far).
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import json
import random
from collections import Counter
from contextlib import suppress

MODEL = "test-teacher"


class Server:
    def __init__(self, options: argparse.Namespace) -> None:
        self._options = options
        self._rng = random.Random(options.seed)
        self._counts: Counter[str] = Counter()

    async def connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).lower()
                length = 0
                if b"content-length:" in head:
                    length = int(head.split(b"content-length:", 1)[1].split(b"\r\n", 1)[0])
                body = await reader.readexactly(length)
                if not await self._answer(head, body, writer):
                    break
        writer.close()

    async def _answer(self, head: bytes, body: bytes, writer: asyncio.StreamWriter) -> bool:
        """Answers one request; returns whether the connection stays open."""
        options = self._options
        if head.startswith(b"get /count"):
            return _send(writer, 200, dict(self._counts))
        if head.startswith(b"get /v1/models"):
            return _send(writer, 200, {"object": "list", "data": [{"id": MODEL, "object": "model"}]})
        self._counts["requests"] += 1
        if options.key and b"authorization: bearer " + options.key.encode().lower() not in head:
            return _send(writer, 401, {"error": {"message": "Incorrect API key", "code": "invalid_api_key"}})
        request = json.loads(body)
        if request["model"] != MODEL:
            return _send(writer, 404, {"error": {"message": f"no model {request['model']}", "code": "model_not_found"}})
        if options.latency:
            await asyncio.sleep(options.latency * self._rng.uniform(0.5, 1.5))
        text = "\n".join(message["content"] for message in request["messages"])
        if len(text) > options.max_characters:
            return _send(writer, 400, {"error": {"message": "This model's maximum context length is exceeded"}})
        fault = self._draw_fault()
        if fault is not None:
            self._counts[fault] += 1
            return await self._misbehave(fault, completion(request, text), writer)
        self._counts["answers"] += 1
        return _send(writer, 200, completion(request, text))

    def _draw_fault(self) -> str | None:
        options = self._options
        at = self._rng.random()
        for name in ("fail", "limit", "stall", "broken", "cut", "empty"):
            share = getattr(options, name)
            if at < share:
                return name
            at -= share
        return None

    async def _misbehave(self, fault: str, completion: dict, writer: asyncio.StreamWriter) -> bool:
        if fault == "fail":
            return _send(writer, self._rng.choice([500, 502, 503]), {"error": {"message": "internal error"}})
        if fault == "limit":
            return _send(writer, 429, {"error": {"message": "slow down"}}, b"retry-after-ms: 20\r\n")
        if fault == "empty":
            completion["choices"][0]["message"]["content"] = ""
            return _send(writer, 200, completion)
        if fault == "stall":
            await asyncio.sleep(self._options.stall_seconds)
            return False
        data = json.dumps(completion).encode()
        half = data[: self._rng.randrange(1, len(data))]
        if fault == "broken":
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n" % len(half))
            writer.write(half)
            return True
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n" % len(data))
        writer.write(half)
        return False


def completion(request: dict, text: str) -> dict:
    """The answer to a request whose messages are ``text``, joined by line ends."""
    digest = hashlib.sha256(f"{request.get('seed')}\n{text}".encode("utf-8", "surrogatepass")).hexdigest()
    content = (
        f'Opinion Target 1: "{digest[:8]}"\nAspect: Quality\nSentiment: Positive\nReasoning: {digest} shows that the '
        f"customer was pleased. The words {digest[8:16]} and {digest[16:24]} leave no doubt about it, and what "
        f"happened afterwards makes it plainer still."
    )
    tokens = len(content) // 4
    usage = {"prompt_tokens": len(text) // 4, "completion_tokens": tokens, "total_tokens": len(text) // 4 + tokens}
    choice = {"index": 0, "message": {"role": "assistant", "content": content}, "finish_reason": "stop"}
    return {"id": digest[:16], "object": "chat.completion", "model": MODEL, "choices": [choice], "usage": usage}


def _send(writer: asyncio.StreamWriter, status: int, body: dict, headers: bytes = b"") -> bool:
    data = json.dumps(body).encode()
    writer.write(
        b"HTTP/1.1 %d X\r\ncontent-type: application/json\r\n%bcontent-length: %d\r\n\r\n%b"
        % (status, headers, len(data), data)
    )
    return True


async def main(options: argparse.Namespace) -> None:
    server = await asyncio.start_server(Server(options).connection, "127.0.0.1", options.port, limit=1 << 22)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--latency", type=float, default=0.0, help="mean seconds before an answer")
    parser.add_argument("--fail", type=float, default=0.0, help="share of answers with status 5xx")
    parser.add_argument("--limit", type=float, default=0.0, help="share of answers with status 429 and retry-after")
    parser.add_argument("--stall", type=float, default=0.0, help="share of requests that are never answered")
    parser.add_argument("--broken", type=float, default=0.0, help="share of answers with incomplete JSON")
    parser.add_argument("--cut", type=float, default=0.0, help="share of connections that end inside the answer")
    parser.add_argument("--empty", type=float, default=0.0, help="share of answers without text")
    parser.add_argument("--stall-seconds", type=float, default=3600.0)
    parser.add_argument("--max-characters", type=int, default=1_000_000)
    parser.add_argument("--key", default="", help="the only accepted API key; by default all are accepted")
    parser.add_argument("--seed", type=int, default=0)
    with suppress(KeyboardInterrupt):
        asyncio.run(main(parser.parse_args()))
