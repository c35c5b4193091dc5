"""Ends all processes of a run if one of them ends, with a message that names that process.

Otherwise the others would wait in a collective operation, or fail with an error of the network. Process 0 has a TCP
connection to each of the others. A process that fails sends its error over it; if a process is killed, its connection
ends. Process 0 forwards both to the other processes.

JAX's coordination service starts after that and is reached through these connections. Its client, written in C++,
aborts the process with a stack trace if another process does not start, or as soon as process 0 is gone. :class:`Relay`
keeps the client's connection open, so that the reason can be printed first.
"""

from __future__ import annotations

import abc
import contextlib
import json
import os
import resource
import socket
import sys
import threading
import time
from collections.abc import Callable
from typing import Any, NoReturn

_LEAVING_SECONDS = 10.0
_LONGEST_LINE = 1 << 16
_SHOWN = 4000
_FILES_OF_A_MEMBER = 4
"""Connections that process 0 has to each of the others: this module's, and both ends of the bridge to JAX's."""


class Peers(abc.ABC):
    """The connection of this process to the others; base class of :class:`Hub` and :class:`Member`.

    Args:
      index: Index of this process.
      count: Number of processes.
    """

    def __init__(self, index: int, count: int) -> None:
        self._index, self._count = index, count
        self._ending = threading.Lock()
        self._left = threading.Event()

    @abc.abstractmethod
    def tell(self, error: str) -> None:
        """Ends the other processes with ``error``."""

    @abc.abstractmethod
    def leave(self) -> None:
        """Waits until every process has reached its regular end."""

    def left(self) -> None:
        """From now on, the end of a connection is expected."""
        self._left.set()

    def end(self, index: int, error: str | None) -> NoReturn:
        """Ends this process because of process ``index``, which was killed if ``error`` is None."""
        with self._ending:  # Never released: only the first reason is printed.
            print(f"process {index} of {self._count}: {error or _KILLED}", file=sys.stderr, flush=True)
            os._exit(2)

    def lost(self, index: int) -> None:
        """Ends this process because of a broken connection, unless it is about to end regularly."""
        if not self._left.wait(_LEAVING_SECONDS if index == 0 and self._is_leaving() else 0):
            self.end(index, None)

    def _is_leaving(self) -> bool:
        return False


_KILLED = (
    "killed, or its machine was lost\n  to fix it: start the same command again on every process: it continues from "
    "what is saved"
)


class Hub(Peers):
    """The connections of process 0: accepts the others on the coordinator's port, and forwards their messages.

    JAX's coordination service listens on a local port; connections that do not belong to this module are forwarded to
    that port.

    Args:
      count: Number of processes.
      port: Port of the coordinator.

    Attributes:
      service: HOST:PORT for JAX's coordination service. It is set when all processes are connected: the port is free
        until the service opens it, so it is chosen as late as possible.

    Raises:
      OSError: The port is in use.
    """

    service: str

    def __init__(self, count: int, port: int) -> None:
        super().__init__(0, count)
        self._members: dict[int, socket.socket] = {}
        self._done: set[int] = set()
        self._complete = False
        self._changed = threading.Condition()
        self._inner: tuple[str, int] | None = None
        if socket.has_dualstack_ipv6():
            self._server = socket.create_server(("", port), family=socket.AF_INET6, dualstack_ipv6=True)
        else:
            self._server = socket.create_server(("", port))
        _raise_limit_of_open_files(_FILES_OF_A_MEMBER * count)
        _serve_all(self._server, self._receive)

    def wait_for_all(self, seconds: float) -> None:
        """Waits until all other processes are connected, and lets them continue.

        Raises:
          TimeoutError: Some did not connect.
        """
        with self._changed:
            if not self._changed.wait_for(lambda: len(self._members) == self._count - 1, seconds):
                missing = sorted(set(range(1, self._count)) - self._members.keys())
                shown = ", ".join(map(str, missing[:8])) + (" …" if len(missing) > 8 else "")
                raise TimeoutError(f"process {shown} did not connect within {seconds:.0f} s")
            self._complete = True
        with socket.create_server(("127.0.0.1", 0)) as free:
            inner: tuple[str, int] = free.getsockname()[:2]
            self._inner = inner
        self.service = f"127.0.0.1:{inner[1]}"
        self._send({"welcome": True})

    def _receive(self, connection: socket.socket) -> None:
        _keep_alive(connection)
        with contextlib.suppress(OSError):
            if connection.recv(1, socket.MSG_PEEK) == b"{":
                self._serve(connection)
            elif self._inner is None:  # Not from this run: JAX's clients connect only after the welcome.
                connection.close()
            else:
                _bridge(connection, self._inner)

    def _serve(self, connection: socket.socket) -> None:
        lines = _Lines(connection)
        greeting = lines.next() or {}
        index: Any = greeting.get("process")  # refused below unless it is a number
        with self._changed:
            refused = self._refusal(index, greeting.get("count"))
            if refused is None:
                self._members[index] = connection
                self._changed.notify_all()
        if refused is not None:
            _send(connection, {"refused": refused})
            connection.close()
            return
        while (message := lines.next()) is not None:
            if "error" in message:
                self._fail(index, str(message["error"]))
            with self._changed:
                self._done.add(index)
                self._changed.notify_all()
        with self._changed:
            if not self._complete:  # It may connect again while the wait for all continues.
                del self._members[index]
                return
        if index not in self._done:
            self._fail(index, None)

    def _refusal(self, index: Any, count: Any) -> str | None:
        if count != self._count:
            return f"process 0 waits for {self._count} processes, process {index} for {count}"
        if not isinstance(index, int) or not 0 < index < self._count:
            return f"a process with the index {index} of {self._count}"
        return f"two processes with the index {index}" if index in self._members else None

    def _fail(self, index: int, error: str | None) -> NoReturn:
        self._send({"process": index, "error": error}, except_for=index)
        self.end(index, error)

    def _send(self, message: dict[str, Any], except_for: int | None = None) -> None:
        for index, member in list(self._members.items()):
            if index != except_for:
                _send(member, message)

    def tell(self, error: str) -> None:
        self._send({"process": 0, "error": error[:_SHOWN]})

    def leave(self) -> None:
        with self._changed:
            self._changed.wait_for(lambda: len(self._done) == self._count - 1)
        self._send({"done": True})


class Member(Peers):
    """The connection of every process but 0.

    Args:
      index: Index of this process.
      count: Number of processes.
      host: Host of process 0.
      port: Port of the coordinator.
      seconds: Time to wait for process 0, and until all processes are connected.

    Raises:
      ValueError: Process 0 refuses this process; the message has the reason.
      OSError: Process 0, or another process, did not connect.
    """

    def __init__(self, index: int, count: int, host: str, port: int, seconds: float) -> None:
        super().__init__(index, count)
        self._all_done = threading.Event()
        deadline = time.monotonic() + seconds
        self._connection = _connect(host, port, deadline)
        _keep_alive(self._connection)
        _send(self._connection, {"process": index, "count": count})
        # A little longer than process 0 waits, since process 0 reports which processes are missing.
        self._connection.settimeout(max(1.0, deadline + 5 - time.monotonic()))
        lines = _Lines(self._connection)
        answer = lines.next()
        if answer is None:
            raise TimeoutError(f"process 0 at {host}:{port} ended before all {count} processes were connected")
        if "refused" in answer:
            raise ValueError(str(answer["refused"]))
        self._connection.settimeout(None)
        threading.Thread(target=self._listen, args=(lines,), daemon=True).start()
        if "welcome" not in answer:
            self.end(int(answer["process"]), answer["error"])

    def _listen(self, lines: _Lines) -> None:
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
    """Forwards connections from a local port to the coordinator's port, and detects when process 0 is gone.

    Args:
      host: Host of process 0.
      port: Port of the coordinator.
      lost: Called when process 0 is gone, before the client's connection is closed.

    Attributes:
      address: HOST:PORT for JAX's client.
    """

    def __init__(self, host: str, port: int, lost: Callable[[], None]) -> None:
        self._target, self._lost = (host, port), lost
        self._server = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self._server.getsockname()[1]}"
        _serve_all(self._server, lambda client: _bridge(client, self._target, self._lost))


def _serve_all(server: socket.socket, serve: Callable[[socket.socket], None]) -> None:
    """Calls ``serve`` with every connection, each in a separate thread."""

    def accept() -> None:
        while True:
            try:
                connection, _ = server.accept()
            except OSError:  # No file descriptor is free at the moment; the connection stays in the queue.
                time.sleep(0.1)
                continue
            threading.Thread(target=serve, args=(connection,), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()


def _raise_limit_of_open_files(more: int) -> None:
    """Raises the limit of open files (often 1,024) by ``more``, as far as the system allows."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY:
        wanted = soft + more if hard == resource.RLIM_INFINITY else min(soft + more, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def _bridge(client: socket.socket, address: tuple[str, int], lost: Callable[[], None] | None = None) -> None:
    """Forwards between a connection and a new one to ``address``. If the new one ends first, ``lost`` is called."""
    try:
        target = socket.create_connection(address, timeout=10)
    except OSError:  # JAX's service has not started yet; its clients try again.
        client.close()
        return
    target.settimeout(None)
    _keep_alive(target)
    client_ended = threading.Event()

    def to_target() -> None:
        if _forward(client, target):
            client_ended.set()
        with contextlib.suppress(OSError):
            target.shutdown(socket.SHUT_RDWR)

    threading.Thread(target=to_target, daemon=True).start()
    if _forward(target, client) and not client_ended.is_set() and lost is not None:
        lost()
    for connection in (client, target):
        with contextlib.suppress(OSError):
            connection.shutdown(socket.SHUT_RDWR)  # The other thread may be waiting for data from it.
        connection.close()


def _forward(source: socket.socket, sink: socket.socket) -> bool:
    """Forwards bytes until one side ends; returns whether that was ``source``."""
    while True:
        try:
            data = source.recv(1 << 16)
        except OSError:
            return True
        if not data:
            return True
        try:
            sink.sendall(data)
        except OSError:
            return False


def _connect(host: str, port: int, deadline: float) -> socket.socket:
    while True:
        try:
            return socket.create_connection((host, port), timeout=10)
        except OSError as error:
            if time.monotonic() > deadline:
                raise TimeoutError(f"process 0 at {host}:{port}: {error}") from error
            time.sleep(0.5)


class _Lines:
    """The messages received over a connection; each is a line of JSON."""

    def __init__(self, connection: socket.socket) -> None:
        self._file = connection.makefile("rb")

    def next(self) -> dict[str, Any] | None:
        """Returns the next message; None at the end of the connection, or if the message is invalid."""
        try:
            line = self._file.readline(_LONGEST_LINE)
            message = json.loads(line) if line.endswith(b"\n") else None
        except (OSError, ValueError, RecursionError):
            return None
        return message if isinstance(message, dict) else None


def _send(connection: socket.socket, message: dict[str, Any]) -> None:
    with contextlib.suppress(OSError):  # Connection lost: this is reported where it is read.
        connection.sendall(json.dumps(message).encode() + b"\n")


def _keep_alive(connection: socket.socket) -> None:
    """Makes the operating system detect within half a minute that the other machine is gone."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for option, value in (("TCP_KEEPIDLE", 10), ("TCP_KEEPINTVL", 5), ("TCP_KEEPCNT", 4)):
        if hasattr(socket, option):
            connection.setsockopt(socket.IPPROTO_TCP, getattr(socket, option), value)
