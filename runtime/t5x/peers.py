"""Several processes end together: what ends one of them ends the others, with a message that names it.

A collective in which one process is missing would otherwise wait, or fail with words of the network's. Process 0 holds
a TCP connection to each of the others. A process that fails sends its error there, and one that is killed is known by
the end of its connection; process 0 passes both on.

The connection of JAX's own coordination client goes through :class:`_Relay`, in the same process: that client, in C++,
aborts the process with a stack trace in the moment in which process 0 is gone, before anybody could say why. The
relay keeps its end open, and says it.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import socket
import sys
import threading
import time
from collections.abc import Callable
from typing import Any, NoReturn

_GREETING_SECONDS = 120.0
_LEAVING_SECONDS = 10.0
_LONGEST_LINE = 1 << 16
_SHOWN = 4000
_KEY = "fsa_jax/peers"


class Peers:
    """This process's connection to the others; the base of process 0's and of theirs.

    Args:
      index: of this process.
      count: of processes.
    """

    def __init__(self, index: int, count: int) -> None:
        self._index, self._count = index, count
        self._ending = threading.Lock()
        self._left = threading.Event()

    def tell(self, error: str) -> None:
        """Ends the other processes with ``error``."""
        raise NotImplementedError

    def leave(self) -> None:
        """Waits until every process is here, at its regular end."""
        raise NotImplementedError

    def left(self) -> None:
        """The end of a connection means nothing any more."""
        self._left.set()

    def end(self, index: int, error: str | None) -> NoReturn:
        """Ends this process because of process ``index``, which was killed if ``error`` is None."""
        with self._ending:  # Held to the end: the first reason is the one that is told.
            print(f"process {index} of {self._count}: {error or _KILLED}", file=sys.stderr, flush=True)
            os._exit(2)

    def lost(self, index: int) -> None:
        """Ends this process because of a broken connection, unless it is about to leave in any case."""
        if not self._left.wait(_LEAVING_SECONDS if index == 0 and self._is_leaving() else 0):
            self.end(index, None)

    def _is_leaving(self) -> bool:
        return False


_KILLED = (
    "killed, or its machine was lost\n  to fix it: start the same command again on every process: it goes on from what "
    "is saved"
)


class Hub(Peers):
    """Process 0's: accepts the others, and passes on what one of them says to the rest.

    Args:
      count: of processes.
      publish: ``fn(key, value)``, tells the others where to connect.
    """

    def __init__(self, count: int, publish: Callable[[str, str], None]) -> None:
        super().__init__(0, count)
        self._members: dict[int, socket.socket] = {}
        self._done: set[int] = set()
        self._changed = threading.Condition()
        self._token = secrets.token_hex(16)
        self._server = _listen("")
        threading.Thread(target=self._accept, daemon=True).start()
        publish(_KEY, json.dumps({"port": self._server.getsockname()[1], "token": self._token}))

    def _accept(self) -> None:
        deadline = time.monotonic() + _GREETING_SECONDS
        while len(self._members) < self._count - 1:
            self._server.settimeout(max(0.01, deadline - time.monotonic()))
            try:
                connection, _ = self._server.accept()
            except TimeoutError:
                self._fail(min(set(range(1, self._count)) - self._members.keys()), None)
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()
            with self._changed:
                self._changed.wait(0.05)
        self._server.close()

    def _serve(self, connection: socket.socket) -> None:
        _keep_alive(connection)
        lines = _Lines(connection)
        greeting = lines.next() or {}
        index = greeting.get("process")
        if greeting.get("token") != self._token or index not in range(1, self._count):
            connection.close()  # Not one of us: whatever else on the network tries ports.
            return
        with self._changed:
            self._members[index] = connection
            self._changed.notify_all()
        while (message := lines.next()) is not None:
            if "error" in message:
                self._fail(index, str(message["error"]))
            with self._changed:
                self._done.add(index)
                self._changed.notify_all()
        if index not in self._done:
            self._fail(index, None)

    def _fail(self, index: int, error: str | None) -> NoReturn:
        self._send({"process": index, "error": error}, besides=index)
        self.end(index, error)

    def _send(self, message: dict[str, Any], besides: int | None = None) -> None:
        for index, member in list(self._members.items()):
            if index != besides:
                _send(member, message)

    def tell(self, error: str) -> None:
        self._send({"process": 0, "error": error[:_SHOWN]})

    def leave(self) -> None:
        with self._changed:
            self._changed.wait_for(lambda: len(self._done) == self._count - 1)
        self._send({"done": True})


class Member(Peers):
    """Every other process's.

    Args:
      index: of this process.
      count: of processes.
      host: where process 0 runs.
      lookup: ``fn(key)``, gives what process 0 published.
    """

    def __init__(self, index: int, count: int, host: str, lookup: Callable[[str], str]) -> None:
        super().__init__(index, count)
        where = json.loads(lookup(_KEY))
        self._connection = socket.create_connection((host, where["port"]), _GREETING_SECONDS)
        self._connection.settimeout(None)
        _keep_alive(self._connection)
        self._leaving = threading.Event()
        self._all_done = threading.Event()
        _send(self._connection, {"process": index, "token": where["token"]})
        threading.Thread(target=self._listen, daemon=True).start()

    def _listen(self) -> None:
        lines = _Lines(self._connection)
        while (message := lines.next()) is not None:
            if "process" in message:
                self.end(int(message["process"]), message["error"])
            self._all_done.set()
        self.lost(0)

    def tell(self, error: str) -> None:
        _send(self._connection, {"error": error[:_SHOWN]})

    def leave(self) -> None:
        _send(self._connection, {"done": True})
        self._all_done.wait()

    def _is_leaving(self) -> bool:
        return self._all_done.is_set()


class Relay:
    """Forwards connections on a port of this machine to process 0's, and notices when process 0 is gone.

    Attributes:
      address: the port, for JAX's client.
      lost: called when process 0 is gone; until it is set, the loss is passed on to the client.
    """

    def __init__(self, host: str, port: int) -> None:
        self._target = (host, port)
        self._server = _listen("127.0.0.1")
        self.address = f"127.0.0.1:{self._server.getsockname()[1]}"
        self.lost: Callable[[], None] | None = None
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            client, _ = self._server.accept()
            threading.Thread(target=self._connect, args=(client,), daemon=True).start()

    def _connect(self, client: socket.socket) -> None:
        try:
            target = socket.create_connection(self._target, timeout=10)
        except OSError:  # Process 0 has not begun yet: JAX's client tries again.
            client.close()
            return
        target.settimeout(None)
        _keep_alive(target)
        client_ended = threading.Event()

        def to_target() -> None:
            _forward(client, target)
            client_ended.set()
            with contextlib.suppress(OSError):
                target.shutdown(socket.SHUT_RDWR)

        threading.Thread(target=to_target, daemon=True).start()
        _forward(target, client)
        if not client_ended.is_set() and self.lost is not None:
            self.lost()
        client.close()
        target.close()


def _forward(source: socket.socket, sink: socket.socket) -> None:
    """Forwards bytes until one side ends."""
    with contextlib.suppress(OSError):
        while data := source.recv(1 << 16):
            sink.sendall(data)


class _Lines:
    """The messages that come from a connection, each a line of JSON."""

    def __init__(self, connection: socket.socket) -> None:
        self._file = connection.makefile("rb")

    def next(self) -> dict[str, Any] | None:
        """Returns the next message, None at the end of the connection or of sense."""
        try:
            line = self._file.readline(_LONGEST_LINE)
            message = json.loads(line) if line.endswith(b"\n") else None
        except (OSError, ValueError, RecursionError):
            return None
        return message if isinstance(message, dict) else None


def _send(connection: socket.socket, message: dict[str, Any]) -> None:
    with contextlib.suppress(OSError):  # Gone: whoever reads from it says so.
        connection.sendall(json.dumps(message).encode() + b"\n")


def _listen(host: str) -> socket.socket:
    if host == "" and socket.has_dualstack_ipv6():
        return socket.create_server(("", 0), family=socket.AF_INET6, dualstack_ipv6=True)
    return socket.create_server((host, 0))


def _keep_alive(connection: socket.socket) -> None:
    """Lets the operating system notice within half a minute that the other machine is gone."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for option, value in (("TCP_KEEPIDLE", 10), ("TCP_KEEPINTVL", 5), ("TCP_KEEPCNT", 4)):
        if hasattr(socket, option):
            connection.setsockopt(socket.IPPROTO_TCP, getattr(socket, option), value)
