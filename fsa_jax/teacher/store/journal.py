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
from typing import IO

from fsa_base import untrusted_json
from fsa_base.disk import sync
from fsa_jax.teacher.store.errors import storing
from fsa_jax.teacher.store.rows import StoredGeneration, columns_of, from_columns

LINE_BYTES = 16 << 20
"""The longest line; a longer one is none of ours, and is passed over in pieces."""


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
        # 528859f could write half a surrogate pair, which Parquet cannot hold.
        rest = [value.encode(errors="replace").decode() if isinstance(value, str) else value for value in rest]
        return from_columns([bytes.fromhex(key), *rest])
    except (ValueError, TypeError):
        return None


def _lines(file: IO[bytes]) -> Iterator[bytes]:
    return iter(lambda: file.readline(LINE_BYTES), b"")


def read_journal(path: Path) -> Iterator[StoredGeneration | None]:
    """Rows in the order in which they were written; None for a torn line. The file is open when it returns."""
    file = path.open("rb")

    def rows() -> Iterator[StoredGeneration | None]:
        with file:
            yield from map(_parse, _lines(file))

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
            whole = at = 0
            if path.exists():
                with path.open("rb") as file:
                    for line in _lines(file):
                        torn = _parse(line) is None
                        self.torn += torn
                        self.rows += not torn
                        at += len(line)
                        # A torn last line is overwritten; whatever ends in a line end is passed over by readers.
                        whole = at if line.endswith(b"\n") else whole
            self._file = path.open("r+b" if path.exists() else "xb", buffering=0)
            self._file.truncate(whole)
            self._file.seek(whole)
            self._size = whole
            os.fsync(self._file.fileno())
            sync(path.parent, recursive=False)

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
