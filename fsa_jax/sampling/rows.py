"""Raw rows of a dump, one at a time: JSONL (plain, ``.gz``, ``.zst``), CSV, TSV and Parquet.

Rows keep the number that they have in their file, whatever state they are in, so that a second pass over the file
finds the same row under the same number. A row that cannot be read is yielded as a :class:`BadRow` with its reason;
nothing in a dump's content stops the stream.
"""

from __future__ import annotations

import ast
import csv
import gzip
import io
import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fsa_jax.errors import DataError, MissingDataError, SettingError

MAX_ROW_BYTES = 4_000_000
"""Longer lines and CSV fields are skipped unread: one missing newline or quote must not fill the memory."""

_JSON_SUFFIXES = (".jsonl", ".ndjson", ".json")
_CSV_SUFFIXES = (".csv", ".tsv")
_PARQUET_SUFFIXES = (".parquet", ".pq")


@dataclass(frozen=True)
class BadRow:
    """A row that cannot be read, and why (one of few fixed phrases, so that reasons can be counted)."""

    reason: str


@dataclass(frozen=True)
class RawRow:
    """A row before it is parsed: parsing costs most, and the second pass needs few of the rows."""

    parse: Callable[[], Mapping[str, Any] | BadRow]
    repairs: tuple[str, ...] = field(default=())
    """What had to be fixed to read it at all, such as a wrong encoding."""


def expand(path: str | Path) -> list[Path]:
    """The files of a source: the file itself, or the dump files of a folder, by name.

    Raises:
      MissingDataError: there is no such file or folder.
      DataError: the folder holds no dump file.
    """
    path = Path(path)
    if path.is_dir():
        files = sorted(file for file in path.iterdir() if file.is_file() and _plain_suffix(file) is not None)
        if not files:
            raise DataError(path, expected="JSONL, CSV or Parquet files", found="none", fix="name the dump's files")
        return files
    if not path.is_file():
        raise MissingDataError(path, expected="a dump of reviews", found="nothing", fix="check the path")
    return [path]


def _plain_suffix(path: Path) -> str | None:
    suffixes = [suffix.lower() for suffix in path.suffixes]
    if suffixes and suffixes[-1] in (".gz", ".zst"):
        suffixes.pop()
    known = (*_JSON_SUFFIXES, *_CSV_SUFFIXES, *_PARQUET_SUFFIXES)
    return suffixes[-1] if suffixes and suffixes[-1] in known else None


def raw_rows(path: Path) -> Iterator[RawRow | BadRow]:
    """All rows of one file in order, by the file's name: ``.jsonl .json .ndjson .csv .tsv`` (also ``.gz .zst``) or
    ``.parquet``.

    Raises:
      DataError: the container itself is broken from the start (no Parquet, a JSON array in place of lines).
      SettingError: the name says nothing about the format.
    """
    suffix = _plain_suffix(path)
    if suffix in _JSON_SUFFIXES:
        return _json_rows(path)
    if suffix in _CSV_SUFFIXES:
        return _csv_rows(path, "\t" if suffix == ".tsv" else ",")
    if suffix in _PARQUET_SUFFIXES:
        return _parquet_rows(path)
    raise SettingError(
        path,
        expected="a name that ends in .jsonl, .json, .ndjson, .csv, .tsv (also with .gz or .zst) or .parquet",
        found=f"{path.name!r}",
        fix="rename the file after what it holds",
    )


def _open(path: Path) -> io.BufferedIOBase:
    suffix = path.suffix.lower()
    if suffix == ".gz":
        return gzip.open(path, "rb")
    if suffix == ".zst":
        import zstandard

        with path.open("rb") as probe:
            magic = probe.read(4)
        if magic != zstandard.FRAME_HEADER:
            raise _not_compressed(path, "zstd")
        # Dumps are often several frames after one another.
        decompressor = zstandard.ZstdDecompressor(max_window_size=2**31)
        reader = decompressor.stream_reader(path.open("rb"), read_across_frames=True)
        return io.BufferedReader(reader, 1 << 20)  # pyright: ignore[reportArgumentType]
    return path.open("rb")


def _not_compressed(path: Path, what: str) -> DataError:
    return DataError(path, expected=f"{what} data", found="something else", fix="rename it after what it holds")


def _lines(path: Path) -> Iterator[bytes | BadRow]:
    """Lines without their end; a line over MAX_ROW_BYTES and a broken end of a compressed file become bad rows."""
    import zlib

    from zstandard import ZstdError

    with _open(path) as stream:
        first = True
        while True:
            try:
                line = stream.readline(MAX_ROW_BYTES)
                if len(line) == MAX_ROW_BYTES and not line.endswith(b"\n"):
                    while (rest := stream.readline(MAX_ROW_BYTES)) and not rest.endswith(b"\n"):
                        pass
                    yield BadRow("line longer than 4 MB")
                    continue
            except (EOFError, zlib.error, gzip.BadGzipFile, ZstdError) as error:
                if first:
                    raise _not_compressed(path, path.suffix[1:]) from error
                yield BadRow("compressed file is broken from here on")
                return
            if not line:
                return
            if first:
                first = False
                if line.startswith((b"\xff\xfe", b"\xfe\xff")):
                    raise DataError(
                        path,
                        expected="UTF-8 (or an 8-bit encoding)",
                        found="UTF-16",
                        fix=f"iconv -f UTF-16 -t UTF-8 {path.name} > utf8{path.suffix}",
                    )
                line = line.removeprefix(b"\xef\xbb\xbf")
            yield line.rstrip(b"\r\n")


def decode(line: bytes) -> tuple[str, tuple[str, ...]]:
    """Text of a line and what was fixed: UTF-8, else Windows-1252 (a superset of what Latin-1 dumps use)."""
    try:
        return line.decode("utf-8"), ()
    except UnicodeDecodeError:
        return line.decode("cp1252", errors="replace"), ("not UTF-8, read as Windows-1252",)


def _json_rows(path: Path) -> Iterator[RawRow | BadRow]:
    first = True
    for line in _lines(path):
        if isinstance(line, BadRow):
            yield line
            continue
        text, repairs = decode(line)
        if first and text.lstrip().startswith("["):
            raise DataError(
                path,
                expected="one JSON object a line",
                found="a JSON array",
                fix=f"jq -c '.[]' {path.name} > {path.stem}.jsonl",
            )
        first = False
        yield RawRow(lambda text=text: _parse_json(text), repairs)


def _parse_json(text: str) -> Mapping[str, Any] | BadRow:
    if not text.strip():
        return BadRow("empty line")
    try:
        row = json.loads(text)
    except (ValueError, RecursionError):
        # Early Amazon dumps hold Python literals; literal_eval builds constants only and runs nothing.
        if not re.match(r"\s*\{\s*u?'", text):
            return BadRow("broken JSON")
        try:
            row = ast.literal_eval(text.strip())
        except (ValueError, SyntaxError, MemoryError, RecursionError):
            return BadRow("broken JSON")
    return row if isinstance(row, dict) else BadRow("JSON, but no object")


def _csv_rows(path: Path, delimiter: str) -> Iterator[RawRow | BadRow]:
    repairs: list[str] = []

    def text_lines() -> Iterator[str]:
        for line in _lines(path):
            if isinstance(line, BadRow):
                # A quoted field may go on over it: an empty line keeps the reader in step.
                repairs.append(line.reason)
                yield "\n"
                continue
            text, fixed = decode(line)
            repairs.extend(fixed)
            if "\0" in text:
                text = text.replace("\0", "")
                repairs.append("NUL characters removed")
            # The csv module takes a carriage return inside a line for a mistake of its caller's.
            yield text.replace("\r", " ") + "\n"

    limit = csv.field_size_limit(MAX_ROW_BYTES)
    try:
        reader = csv.reader(text_lines(), delimiter=delimiter)
        try:
            header = next(reader, None)
        except csv.Error:
            header = None
        if not header:
            raise DataError(path, expected="a header line with column names", found="none", fix="add one")
        while True:
            try:
                cells = next(reader)
            except StopIteration:
                return
            except csv.Error:
                repairs.clear()
                yield BadRow("broken CSV row")
                continue
            fixed, repairs[:] = tuple(dict.fromkeys(repairs)), []
            if not cells:
                yield BadRow("empty line")
            elif len(cells) != len(header):
                yield BadRow("CSV row with another number of columns than its header")
            else:
                yield RawRow(lambda cells=cells: dict(zip(header, cells, strict=True)), fixed)
    finally:
        csv.field_size_limit(limit)


def _parquet_rows(path: Path) -> Iterator[RawRow | BadRow]:
    import pyarrow
    import pyarrow.parquet

    try:
        file = pyarrow.parquet.ParquetFile(path)
    except pyarrow.ArrowInvalid as error:
        raise DataError(path, expected="a Parquet file", found=str(error), fix="write or fetch it again") from error
    with file:
        for batch in file.iter_batches(batch_size=1024):
            for index in range(batch.num_rows):
                yield RawRow(lambda batch=batch, index=index: _arrow_row(batch, index))


def _arrow_row(batch: Any, index: int) -> Mapping[str, Any] | BadRow:
    try:
        return {name: batch.column(i)[index].as_py() for i, name in enumerate(batch.schema.names)}
    except UnicodeDecodeError:
        return BadRow("Parquet text that is not UTF-8")
