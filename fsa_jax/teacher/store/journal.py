"""The journal of a shard: generations survive a kill the moment ``append`` returns, a power cut from the next ``sync``.

One line a generation: eight hexadecimal digits of CRC-32, a space, a JSON array of the columns. A line that was being
written when the machine died fails its sum and is passed over; its request was still in flight and is asked again.
"""

from __future__ import annotations

import json
import os
import threading
import zlib
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path

from fsa_jax.teacher.store.errors import storing
from fsa_jax.teacher.store.rows import SCHEMA, StoredGeneration, columns_of


def sync_directory(directory: Path) -> None:
    """Makes new names in a directory survive a power cut."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


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
    key, *rest = json.loads(payload)
    if len(rest) + 1 != len(SCHEMA):
        return None
    return StoredGeneration(bytes.fromhex(key), *rest)


def read_journal(path: Path) -> Iterator[StoredGeneration | None]:
    """Rows in the order in which they were written; None for a torn line. The file is open when it returns."""
    file = path.open("rb")

    def rows() -> Iterator[StoredGeneration | None]:
        with file:
            yield from map(_parse, file)

    return rows()


class Journal:
    """The journal file that is being written.

    Args:
      path: created where it is not there; otherwise it is written on behind its last whole line.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.rows = 0
        self.torn = 0
        self._syncing = threading.Lock()
        with storing(path):
            whole = 0
            if path.exists():
                with path.open("rb") as file:
                    for line in file:
                        torn = _parse(line) is None
                        self.torn += torn
                        self.rows += not torn
                        # A torn last line is overwritten; whatever ends in a line end is passed over by readers.
                        whole += len(line) if line.endswith(b"\n") else 0
            self._file = path.open("r+b" if path.exists() else "xb", buffering=0)
            self._file.truncate(whole)
            self._file.seek(whole)
            self._size = whole
            os.fsync(self._file.fileno())
            sync_directory(path.parent)

    def append(self, rows: Sequence[StoredGeneration]) -> None:
        """Writes rows; when it returns, they survive the end of this process, however it ends.

        Raises:
          StoreError: the disk does not take them; what was there before is whole.
        """
        data = memoryview(b"".join(map(_line, rows)))
        size = self._size + len(data)
        with storing(self.path):
            try:
                while data:
                    data = data[self._file.write(data) :]
            except OSError:
                # Half a line is harmless (it fails its sum) but takes room on a disk that has none.
                with suppress(OSError):
                    self._file.truncate(self._size)
                    self._file.seek(self._size)
                raise
        self._size = size
        self.rows += len(rows)

    def sync(self) -> None:
        """Makes what was appended survive a power cut; nothing where the journal has been closed since.

        Raises:
          StoreError: the disk did not take it.
        """
        with self._syncing, storing(self.path):
            if not self._file.closed:
                os.fsync(self._file.fileno())

    def close(self) -> None:
        with self._syncing:
            self._file.close()
