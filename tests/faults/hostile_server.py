"""A real HTTP server on loopback that gives wrong answers to a teacher's requests, in all known ways."""

from __future__ import annotations

import asyncio
import gzip
import json
import re
import struct
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager, suppress
from email.utils import formatdate

MODEL = "test-teacher"
_BOMB = gzip.compress(bytes(1 << 28), 9)  # 260 KB that become 256 MB


def text_about(request: dict) -> str:
    """The right answer: it has the number of the visit that the review mentions."""
    (number,) = re.findall(r"Visit (\d+):", "\n".join(message["content"] for message in request["messages"]))
    return f"Answer about visit {number}."


def completion(text: object, **changes: object) -> dict:
    """A chat completion in OpenAI's format, with some parts replaced."""
    choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
    usage = {"prompt_tokens": 90, "completion_tokens": 9, "total_tokens": 99}
    return {"id": "1", "object": "chat.completion", "model": MODEL, "choices": [choice], "usage": usage, **changes}


def reply(body: object, status: int = 200, *headers: str, kind: str = "application/json") -> bytes:
    """A complete HTTP response; ``body`` is bytes, or is sent as JSON."""
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    lines = [f"HTTP/1.1 {status} X", f"content-type: {kind}", f"content-length: {len(data)}", *headers]
    return "\r\n".join([*lines, "", ""]).encode() + data


class Call:
    """One received request: its head, its JSON, and the answer of an honest server."""

    def __init__(self, head: bytes, body: bytes, other: int) -> None:
        self.head = head.decode("latin-1")
        self.request = json.loads(body) if body else {}
        self.text = text_about(self.request) if self.request else ""
        self.key = (re.findall(r"(?im)^authorization: Bearer (\S*)", self.head) or [""])[0]
        self.good = reply(completion(self.text))
        self.elsewhere = f"http://127.0.0.1:{other}/v1/chat/completions"


def _with(call: Call, **message: object) -> bytes:
    body = completion(call.text)
    body["choices"][0]["message"] |= message
    return reply(body)


def _finish(call: Call, reason: object, text: str | None = None) -> bytes:
    body = completion(call.text if text is None else text)
    body["choices"][0]["finish_reason"] = reason
    return reply(body)


def _error(call: Call, status: int, message: str, *headers: str) -> bytes:
    return reply({"error": {"message": message, "code": "bad"}}, status, *headers)


def _redirect(status: int) -> Callable[[Call], bytes]:
    return lambda call: reply(b"", status, f"location: {call.elsewhere}")


def _raw(data: bytes) -> Callable[[Call], bytes]:
    return lambda call: data


def _json(text: str) -> Callable[[Call], bytes]:
    return lambda call: reply(text.encode())


_HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n"

WHOLE: dict[str, Callable[[Call], bytes]] = {
    **{f"redirect {status}": _redirect(status) for status in (300, 301, 302, 303, 304, 307, 308)},
    "redirect without an address": lambda call: reply(b"", 302),
    "redirect to no address": lambda call: reply(b"", 302, "location: http://[::1"),
    "redirect that shows the key": lambda call: reply(b"", 302, f"location: http://{call.key}.example/{call.key}"),
    "deep JSON": _json("[" * 100_000 + "]" * 100_000),
    "deep JSON in an error": lambda call: reply(b'{"error":' * 50_000 + b"1" + b"}" * 50_000, 500),
    "deep content": lambda call: _with(call, content=json.loads("[" * 500 + "]" * 500)),
    "huge number": _json(
        '{"choices": [{"message": {"content": "x"}}], "usage": {"prompt_tokens": 1' + "0" * 6000 + "}}"
    ),
    "large counts": lambda call: reply(completion(call.text, usage={"prompt_tokens": 2**62, "completion_tokens": -1})),
    "counts that are no numbers": _json('{"choices":[{"message":{"content":"x"}}],"usage":{"prompt_tokens":NaN}}'),
    "true as a count": lambda call: reply(completion(call.text, usage={"prompt_tokens": True})),
    "a list as usage": lambda call: reply(completion(call.text, usage=[1, 2])),
    "lone surrogate": lambda call: _with(call, content=call.text + " \ud800"),
    "lone surrogate in the reason": lambda call: _finish(completion_less(call), "odd \udfff reason"),
    "lone surrogate in an error": lambda call: _error(call, 400, "bad \ud800 input"),
    "control characters": lambda call: _with(call, content=f"\x1b[2J\x00{call.text}\x7f"),
    "null content": lambda call: _with(call, content=None),
    "empty content": lambda call: _with(call, content=" \n"),
    "a list as content": lambda call: _with(call, content=[{"type": "text", "text": call.text}]),
    "a number as content": lambda call: _with(call, content=7),
    "a list as message": lambda call: reply(completion(call.text, choices=[{"message": []}])),
    "no choices": lambda call: reply(completion(call.text, choices=[])),
    "an object as choices": lambda call: reply(completion(call.text, choices={"0": 1})),
    "null": _json("null"),
    "a refusal": lambda call: _with(call, content=None, refusal="I will not."),
    "an object as refusal": lambda call: _with(call, content=None, refusal={"why": ["\ud800"]}),
    "odd finish_reason": lambda call: _finish(call, "tool_calls"),
    "an object as finish_reason": lambda call: _finish(call, {"a": ["b"] * 9}),
    "content filter": lambda call: _finish(call, "content_filter"),
    "cut off": lambda call: _finish(call, "length"),
    "duplicate keys": _json('{"choices": 1, "choices": [{"message": {"content": null, "content": "x"}}]}'),
    "not UTF-8": _raw(_HEAD + b"content-length: 3\r\n\r\n\xff\xfe\xfd"),
    "UTF-16": lambda call: reply(json.dumps(completion(call.text)).encode("utf-16")),
    "HTML": lambda call: reply(b"<html><script>alert(1)</script></html>", kind="text/html"),
    "wrong content type": lambda call: reply(completion(call.text), kind="image/png; charset=\xff"),
    "empty body": lambda call: reply(b""),
    "no body, 204": lambda call: reply(b"", 204),
    "informational answers only": _raw(b"HTTP/1.1 103 Early\r\n\r\n" * 50),
    "a huge body": lambda call: reply(b'{"a": "' + b"x" * (9 << 20) + b'"}'),
    "a huge error": lambda call: reply(b"x" * (9 << 20), 500),
    "a huge answer": lambda call: _with(call, content=call.text * 30_000),
    "gzip bomb": lambda call: reply(_BOMB, 200, "content-encoding: gzip"),
    "gzip bomb in an error": lambda call: reply(_BOMB, 503, "content-encoding: gzip"),
    "no gzip": lambda call: reply(completion(call.text), 200, "content-encoding: gzip"),
    "gzip cut off": lambda call: reply(
        gzip.compress(json.dumps(completion(call.text)).encode())[:-9], 200, "content-encoding: gzip"
    ),
    "unknown encoding": lambda call: reply(completion(call.text), 200, "content-encoding: rot13"),
    "key in an error": lambda call: _error(call, 401, f"Incorrect key {call.key} in {call.head}"),
    "key at the end of a long error": lambda call: _error(call, 400, "x" * 280 + call.key),
    "key in a broken answer": lambda call: reply(b"x" * 60 + call.key.encode()),
    "key in the model's name": lambda call: reply(completion(call.text, model=call.key, id=call.key)),
    "key in the answer": lambda call: _with(call, content=f"{call.text} {call.key} {call.key.upper()}"),
    "key in JSON escapes": lambda call: reply(
        "".join(rf"\u{ord(c):04x}" for c in call.key).join(['{"error": "', '"}']).encode(), 500
    ),
    "key in a broken answer, escaped": lambda call: reply("".join(f"%{ord(c):02X}" for c in call.key).encode()),
    "key in a refusal": lambda call: _with(call, content=None, refusal=f"no {call.key}"),
    "key where a refusal is cut": lambda call: _with(
        call, content=None, refusal="x" * (call.request["max_tokens"] * 64 - 13) + call.key
    ),
    "key where a finish_reason is cut": lambda call: _finish(call, "x" * 287 + call.key, text=""),
    "key in a header": lambda call: reply(
        completion(call.text), 200, f"x-key: {call.key}", f"set-cookie: k={call.key}"
    ),
    "429 without a time": lambda call: _error(call, 429, "slow down"),
    "429 with a time in the past": lambda call: _error(call, 429, "slow", "retry-after: Thu, 01 Jan 1970 00:00:00 GMT"),
    "429 with no time": lambda call: _error(call, 429, "slow", "retry-after: 0"),
    "429 with a negative time": lambda call: _error(call, 429, "slow", "retry-after: -1e9"),
    "429 with garbage": lambda call: _error(call, 429, "slow", "retry-after: \xff\xfe;;"),
    "429 for an hour": lambda call: _error(call, 429, "slow", "retry-after: 3600"),
    "503 with a date": lambda call: _error(call, 503, "down", f"retry-after: {formatdate(0, usegmt=True)}"),
    "402": lambda call: _error(call, 402, "insufficient_quota"),
    "418": lambda call: _error(call, 418, "a teapot"),
    "status 999": lambda call: _error(call, 999, "odd"),
    "HTTP/0.9": _raw(b"<html>hello</html>\n"),
    "HTTP/9.9": _raw(b"HTTP/9.9 200 OK\r\n\r\n"),
    "no HTTP": _raw(b"\x00\x01\x02\x03" * 9),
    "TLS alert": _raw(b"\x15\x03\x01\x00\x02\x02\x46"),
    "wrong Content-Length, short": lambda call: call.good.replace(b"content-length: ", b"content-length: 1\r\nx: "),
    "two Content-Lengths": lambda call: call.good.replace(b"content-length", b"content-length: 5\r\ncontent-length"),
    "no number as Content-Length": lambda call: call.good.replace(b"content-length: ", b"content-length: x"),
    "chunks of garbage": _raw(_HEAD + b"transfer-encoding: chunked\r\n\r\nzz\r\n{}\r\n0\r\n\r\n"),
    "a chunk that is cut off": _raw(_HEAD + b"transfer-encoding: chunked\r\n\r\nff\r\n{"),
    "a huge header": _raw(_HEAD + b"x: " + b"y" * (1 << 20) + b"\r\n\r\n{}"),
    "many headers": _raw(_HEAD + b"a: b\r\n" * 30_000 + b"\r\n{}"),
    "odd header bytes": lambda call: call.good.replace(b"content-type", b"\xff\xfe: \xc3\x28\r\ncontent-type"),
    "answered twice": lambda call: call.good * 2,
    "answered, then another answer": lambda call: call.good + reply(completion("Answer about visit 77.")),
    "nothing": _raw(b""),
}
"""Modes with a complete response; afterwards the connection is closed, except for the modes in STAYS_OPEN."""


def completion_less(call: Call) -> Call:
    call.text = ""
    return call


STAYS_OPEN = ("answered twice", "answered, then another answer", "wrong Content-Length, short")


async def _a_byte_a_time(call: Call) -> AsyncIterator[bytes]:
    for i in range(len(call.good)):
        yield call.good[i : i + 1]
        await asyncio.sleep(0.1)


async def _slow_headers(call: Call) -> AsyncIterator[bytes]:
    yield b"HTTP/1.1 200 OK\r\n"
    for i in range(10_000):
        yield b"x-%d: y\r\n" % i
        await asyncio.sleep(0.1)


async def _silence(call: Call) -> AsyncIterator[bytes]:
    yield b""
    await asyncio.sleep(3600)


async def _half(call: Call) -> AsyncIterator[bytes]:
    yield call.good[:-20]
    await asyncio.sleep(3600)


async def _endless(call: Call) -> AsyncIterator[bytes]:
    yield _HEAD + b"transfer-encoding: chunked\r\n\r\n"
    while True:
        yield b"10000\r\n" + b"x" * 65_536 + b"\r\n"
        await asyncio.sleep(0)


SLOW: dict[str, Callable[[Call], AsyncIterator[bytes]]] = {
    "a byte at a time": _a_byte_a_time,
    "slow headers": _slow_headers,
    "silence": _silence,
    "half an answer, then silence": _half,
    "an answer without end": _endless,
}
RESET = ("reset at once", "reset within the body")
MODES = ("good", *(mode for mode in WHOLE if mode != "429 for an hour"), *SLOW, *RESET)
"""All modes in which a job ends without a signal."""


class HostileServer:
    """Answers according to ``mode``; ``requests`` counts requests here, ``elsewhere`` those at the target of
    redirects."""

    def __init__(self) -> None:
        self.mode = "good"
        self.raw: Callable[[bytes], bytes] | None = None
        """Changes the bytes of a good answer, in mode "raw"."""
        self.requests = 0
        self.elsewhere: list[bytes] = []
        self._loop = asyncio.new_event_loop()
        self._server, self._other = (self._listen(function) for function in (self._connection, self._stranger))
        self.port, other = (server.sockets[0].getsockname()[1] for server in (self._server, self._other))
        self.url = f"http://127.0.0.1:{self.port}/v1"
        self._other_port = other
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()

    def _listen(self, connection: Callable) -> asyncio.Server:
        return self._loop.run_until_complete(asyncio.start_server(connection, "127.0.0.1", 0, limit=1 << 22))

    def close(self) -> None:
        async def end() -> None:
            tasks = asyncio.all_tasks() - {asyncio.current_task()}
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

        asyncio.run_coroutine_threadsafe(end(), self._loop).result(timeout=10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(timeout=10)

    async def _stranger(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            self.elsewhere.append(await reader.readuntil(b"\r\n"))
            writer.write(reply(completion("An answer from elsewhere.")))
            await writer.drain()
        writer.close()

    async def _connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                length = re.search(rb"(?i)\r\ncontent-length: (\d+)", head)
                body = await reader.readexactly(int(length[1]) if length else 0)
                self.requests += 1
                if not await self._answer(Call(head, body, self._other_port), writer):
                    break
        writer.close()

    async def _answer(self, call: Call, writer: asyncio.StreamWriter) -> bool:
        mode = self.mode
        if mode in SLOW:
            async for piece in SLOW[mode](call):
                writer.write(piece)
                await writer.drain()
        elif mode in RESET:
            if mode != RESET[0]:
                writer.write(call.good[:-30])
                await writer.drain()
            sock = writer.get_extra_info("socket")
            # Closing with this option sends a reset.
            sock.setsockopt(1, 13, struct.pack("ii", 1, 0))
        elif mode == "raw":
            assert self.raw is not None
            writer.write(self.raw(call.good))
        else:
            writer.write(call.good if mode == "good" else WHOLE[mode](call))
            await writer.drain()
        return mode == "good" or mode in STAYS_OPEN


@contextmanager
def hostile_server() -> Iterator[HostileServer]:
    """A running server."""
    server = HostileServer()
    try:
        yield server
    finally:
        server.close()
