"""The journal of a shard: generations survive a kill once ``append`` returns, and a power cut after the next ``sync``.

Each line is one generation: eight hexadecimal digits of CRC-32, a space, and a JSON array of the columns. A line that
was incomplete when the machine died fails its checksum and is skipped; its request is sent again.
"""

from __future__ import annotations

import json
import os
import threading
import zlib
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO

from fsa_base import untrusted_json
from fsa_base.disk import sync
from fsa_jax.teacher.store.errors import storing
from fsa_jax.teacher.store.rows import StoredGeneration, columns_of, from_columns

LINE_BYTES = 16 << 20
"""Limit on the length of a line. A longer line was not written by this module and is skipped, in pieces."""


def _line(row: StoredGeneration) -> bytes:
    key, *rest = columns_of(row)
    payload = json.dumps([key.hex(), *rest], separators=(",", ":")).encode()
    return b"%08x %b\n" % (zlib.crc32(payload), payload)


def _parse(line: bytes) -> StoredGeneration | None:
    if len(line) < 10 or not line.endswith(b"\n"):
        return None
    payload = line[9:-1]
    if line[:9] != b"%08x " % zlib.crc32(payload):
        return None
    try:
        key, *rest = untrusted_json.parse(payload, lone_surrogates=True)
        # Version 528859f could write half a surrogate pair, which Parquet cannot store.
        rest = [value.encode(errors="replace").decode() if isinstance(value, str) else value for value in rest]
        return from_columns([bytes.fromhex(key), *rest])
    except (ValueError, TypeError):
        return None


def _lines(file: IO[bytes]) -> Iterator[bytes]:
    return iter(lambda: file.readline(LINE_BYTES), b"")


def read_journal(path: Path) -> Iterator[StoredGeneration | None]:
    """Rows in the order in which they were written; None for a damaged line. Opens the file at once, reads it
    lazily."""
    file = path.open("rb")

    def rows() -> Iterator[StoredGeneration | None]:
        with file:
            yield from map(_parse, _lines(file))

    return rows()


class Journal:
    """The journal file that is being written.

    Args:
      path: path of the journal. A new file is created; an existing one is continued after its last complete line.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.rows = 0
        self.torn = 0
        self._syncing = threading.Lock()
        with storing(path):
            whole = at = 0
            if path.exists():
                with path.open("rb") as file:
                    for line in _lines(file):
                        torn = _parse(line) is None
                        self.torn += torn
                        self.rows += not torn
                        at += len(line)
                        # An incomplete last line is overwritten. Damaged lines with a line end are skipped by readers.
                        whole = at if line.endswith(b"\n") else whole
            self._file = path.open("r+b" if path.exists() else "xb", buffering=0)
            self._file.truncate(whole)
            self._file.seek(whole)
            self._size = whole
            os.fsync(self._file.fileno())
            sync(path.parent, recursive=False)

    def append(self, rows: Sequence[StoredGeneration]) -> None:
        """Writes rows. Once it returns, they survive the end of this process, even a kill.

        Raises:
          StoreError: the rows cannot be written; earlier rows are intact.
        """
        data = memoryview(b"".join(map(_line, rows)))
        size = self._size + len(data)
        with storing(self.path):
            try:
                while data:
                    data = data[self._file.write(data) :]
            except OSError:
                # An incomplete line is harmless (it fails its checksum), but it uses space on a full disk.
                with suppress(OSError):
                    self._file.truncate(self._size)
                    self._file.seek(self._size)
                raise
        self._size = size
        self.rows += len(rows)

    def sync(self) -> None:
        """Makes the appended rows survive a power cut. Does nothing if the journal is closed already.

        Raises:
          StoreError: the sync failed.
        """
        with self._syncing, storing(self.path):
            if not self._file.closed:
                os.fsync(self._file.fileno())

    def close(self) -> None:
        with self._syncing:
            self._file.close()
