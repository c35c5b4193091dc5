"""Reads the lines of a plain or compressed (``.gz``, ``.zst``) file, even if it is damaged."""

from __future__ import annotations

import gzip
import io
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from fsa_base.errors import DataError
from fsa_base.extras import not_installed
from fsa_jax.reviews import raw_row
from fsa_jax.reviews.raw_row import BadRow

MAX_SKIPPED_BYTES = 1 << 30
"""If a file has no line end in this many bytes, it is not a file of rows (perhaps a decompression bomb); reading
stops."""

_ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"
_ZSTD_INPUT_BYTES = 1024
"""A byte of zstd can decompress to 32 KB, so this limits the decompressed text in memory to 32 MB."""


def lines(path: Path) -> Iterator[bytes | BadRow]:
    """Lines with their line ends; a line over MAX_ROW_BYTES and the broken end of a compressed file become bad rows.

    Raises:
      DataError: the file cannot be opened, is not the gzip or zstd file that its name says, or is UTF-16.
    """
    limit = raw_row.MAX_ROW_BYTES
    try:
        stream = _open(path)
    except OSError as error:
        raise DataError(
            path, expected="a file that can be read", found=str(error), fix="check its access rights"
        ) from error
    with stream:
        first = True
        while True:
            try:
                line = stream.readline(limit)
                if len(line) == limit and not line.endswith(b"\n"):
                    yield BadRow("line longer than 4 MB")
                    if not _skip_line(stream, limit):
                        yield BadRow("no line end in 1 GB: the rest of the file is not read")
                        return
                    first = False
                    continue
            except (EOFError, zlib.error, OSError) as error:
                compressed = path.suffix.lower() in (".gz", ".zst")
                if first and compressed:
                    raise _not_compressed(path, f"{path.suffix[1:]} data", str(error)) from error
                yield BadRow(_broken(error) if compressed else "file cannot be read from here on")
                return
            if not line:
                return
            if first:
                first = False
                _require_8_bit(path, line)
                line = line.removeprefix(b"\xef\xbb\xbf")
            yield line


def _skip_line(stream: io.BufferedIOBase, limit: int) -> bool:
    skipped = 0
    while (rest := stream.readline(limit)) and not rest.endswith(b"\n"):
        skipped += len(rest)
        if skipped > MAX_SKIPPED_BYTES:
            return False
    return True


def _broken(error: Exception) -> str:
    if "CRC" in str(error) or "checksum" in str(error):
        return "compressed file fails its checksum: its rows before this may be wrong"
    return "compressed file is broken from here on"


def _require_8_bit(path: Path, line: bytes) -> None:
    # UTF-16 without a byte-order mark is recognised by zeros in every second byte.
    unmarked = len(line) >= 8 and any(
        line[odd:8:2] == b"\0\0\0\0" and b"\0" not in line[1 - odd : 8 : 2] for odd in (0, 1)
    )
    if line.startswith((b"\xff\xfe", b"\xfe\xff")) or unmarked:
        raise DataError(
            path,
            expected="UTF-8 (or an 8-bit encoding)",
            found="UTF-16",
            fix=f"iconv -f UTF-16 -t UTF-8 {path.name} > utf8{path.suffix}",
        )


def _open(path: Path) -> io.BufferedIOBase:
    suffix = path.suffix.lower()
    if suffix == ".gz":
        return gzip.open(path, "rb")
    if suffix == ".zst":
        return io.BufferedReader(_ZstdStream(path), 1 << 20)
    return path.open("rb")


class _ZstdStream(io.RawIOBase):
    """Decompresses consecutive zstd frames. Unlike zstandard's own reader it detects a truncated file."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        try:
            import zstandard
        except ImportError as error:
            raise not_installed("zstandard", path, "unpack the file") from error
        with path.open("rb") as probe:
            magic = probe.read(4)
        # Parallel compressors write a skippable frame first.
        if magic != _ZSTD_MAGIC and not (len(magic) == 4 and magic[1:] == b"\x2a\x4d\x18" and magic[0] >> 4 == 5):
            raise _not_compressed(path, "zstd data", "something else")
        self._error = zstandard.ZstdError
        self._decompressor = zstandard.ZstdDecompressor(max_window_size=2**31)
        self._file = path.open("rb")
        self._frame: Any = None
        self._compressed = b""
        self._text = memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while not self._text:
            chunk = self._compressed or self._file.read(_ZSTD_INPUT_BYTES)
            if not chunk:
                if self._frame is not None:
                    raise EOFError("zstd data ends within a frame")
                return 0
            if self._frame is None:
                self._frame = self._decompressor.decompressobj()
            try:
                self._text = memoryview(self._frame.decompress(chunk))
            except self._error as error:
                raise EOFError(str(error)) from error
            self._compressed = self._frame.unused_data if self._frame.eof else b""
            if self._frame.eof:
                self._frame = None
        size = min(len(buffer), len(self._text))
        buffer[:size] = self._text[:size]
        self._text = self._text[size:]
        return size

    def close(self) -> None:
        if not self.closed:
            self._file.close()
        super().close()


def _not_compressed(path: Path, what: str, found: str) -> DataError:
    return DataError(
        path, expected=what, found=found, fix="give it the suffix of its real format, or download it again"
    )
