"""Several processes end together: what ends one of them ends the others, with a message that names it.

A collective in which one process is missing would otherwise wait, or fail with words of the network's. Process 0 holds
a TCP connection to each of the others. A process that fails sends its error there, and one that is killed is known by
the end of its connection; process 0 passes both on.

JAX's own coordination service and clients come after that, and behind it: its client, in C++, aborts the process with a
stack trace where others do not come, and in the moment in which process 0 is gone, before anybody could say why.
:class:`Relay` keeps the client's connection open, and says it.
"""

from __future__ import annotations

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
    """Process 0's: accepts the others at the coordinator's port, and passes on what one of them says to the rest.

    JAX's coordination service listens behind it, on a port of this machine alone; connections that are not of this
    module are forwarded to it.

    Args:
      count: of processes.
      port: of the coordinator.

    Attributes:
      service: HOST:PORT for JAX's coordination service, once all are there: nobody holds the port until the service
        does, so it is chosen as late as can be.

    Raises:
      OSError: the port is taken.
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
        """Waits until the others are here, and lets them go on.

        Raises:
          TimeoutError: some did not come.
        """
        with self._changed:
            if not self._changed.wait_for(lambda: len(self._members) == self._count - 1, seconds):
                missing = sorted(set(range(1, self._count)) - self._members.keys())
                shown = ", ".join(map(str, missing[:8])) + (" …" if len(missing) > 8 else "")
                raise TimeoutError(f"no word of process {shown} in {seconds:.0f} s")
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
            elif self._inner is None:  # Of nobody who belongs here: JAX's clients come after the welcome.
                connection.close()
            else:
                _bridge(connection, self._inner)

    def _serve(self, connection: socket.socket) -> None:
        lines = _Lines(connection)
        greeting = lines.next() or {}
        index: Any = greeting.get("process")  # a number, or it is refused
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
            if not self._complete:  # It may come again before the wait for all is over.
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
      host: of process 0.
      port: of the coordinator.
      seconds: to wait for process 0, and for it to say that all are there.

    Raises:
      ValueError: process 0 refuses this one, and says why.
      OSError: process 0, or another, did not come.
    """

    def __init__(self, index: int, count: int, host: str, port: int, seconds: float) -> None:
        super().__init__(index, count)
        self._all_done = threading.Event()
        deadline = time.monotonic() + seconds
        self._connection = _connect(host, port, deadline)
        _keep_alive(self._connection)
        _send(self._connection, {"process": index, "count": count})
        # A little longer than process 0 waits, which knows who is missing and ends its connections then.
        self._connection.settimeout(max(1.0, deadline + 5 - time.monotonic()))
        lines = _Lines(self._connection)
        answer = lines.next()
        if answer is None:
            raise TimeoutError(f"process 0 at {host}:{port} ended before all {count} processes were there")
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
    """Forwards connections on a port of this machine to the coordinator's, and notices when process 0 is gone.

    Args:
      host: of process 0.
      port: of the coordinator.
      lost: called when process 0 is gone, before the loss is passed on to the client.

    Attributes:
      address: HOST:PORT for JAX's client.
    """

    def __init__(self, host: str, port: int, lost: Callable[[], None]) -> None:
        self._target, self._lost = (host, port), lost
        self._server = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self._server.getsockname()[1]}"
        _serve_all(self._server, lambda client: _bridge(client, self._target, self._lost))


def _serve_all(server: socket.socket, serve: Callable[[socket.socket], None]) -> None:
    """Gives every connection to ``serve``, each in a thread of its own."""

    def accept() -> None:
        while True:
            try:
                connection, _ = server.accept()
            except OSError:  # No file descriptor is free at this moment; the connection waits.
                time.sleep(0.1)
                continue
            threading.Thread(target=serve, args=(connection,), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()


def _raise_limit_of_open_files(more: int) -> None:
    """Lets this process open ``more`` files than by default (often 1,024), as far as it may."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY:
        wanted = soft + more if hard == resource.RLIM_INFINITY else min(soft + more, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def _bridge(client: socket.socket, address: tuple[str, int], lost: Callable[[], None] | None = None) -> None:
    """Forwards between a connection and a new one to ``address`` until one ends; ``lost`` is called if the new one."""
    try:
        target = socket.create_connection(address, timeout=10)
    except OSError:  # JAX's service has not begun yet: its clients try again.
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
            connection.shutdown(socket.SHUT_RDWR)  # The other thread may be waiting for bytes of it.
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


def _keep_alive(connection: socket.socket) -> None:
    """Lets the operating system notice within half a minute that the other machine is gone."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for option, value in (("TCP_KEEPIDLE", 10), ("TCP_KEEPINTVL", 5), ("TCP_KEEPCNT", 4)):
        if hasattr(socket, option):
            connection.setsockopt(socket.IPPROTO_TCP, getattr(socket, option), value)
