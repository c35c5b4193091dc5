"""Reads raw rows of a dump, one at a time: JSONL (plain, ``.gz``, ``.zst``), CSV, TSV and Parquet.

Every pass over a file gives the same rows with the same numbers, even if rows are damaged. A row that cannot be read is
yielded as a :class:`BadRow` with its reason; no content of a dump stops the reader.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from fsa_base.errors import DataError, MissingDataError, SettingError
from fsa_base.untrusted_json import UntrustedJsonError, parse, parse_literal
from fsa_jax.reviews.csv_rows import csv_rows
from fsa_jax.reviews.lines import lines
from fsa_jax.reviews.parquet_files import parquet_rows
from fsa_jax.reviews.raw_row import EMPTY_LINE, BadRow, RawRow, decode

_JSON_SUFFIXES = (".jsonl", ".ndjson", ".json")
_CSV_SUFFIXES = (".csv", ".tsv")
PARQUET_SUFFIXES = (".parquet", ".pq")


def expand(path: str | Path, expected: str = "a dump of reviews") -> list[Path]:
    """The files of a source: the file itself, or the dump files of a folder, sorted by name.

    Args:
      path: file or folder.
      expected: what a missing source should be, for the error.

    Raises:
      MissingDataError: there is no such file or folder.
      DataError: the folder has no dump file.
    """
    path = Path(path)
    if os.path.isdir(path):
        files = sorted(file for file in path.iterdir() if file.is_file() and _plain_suffix(file) is not None)
        if not files:
            raise DataError(path, expected="JSONL, CSV or Parquet files", found="none", fix="name the dump's files")
        return files
    if not os.path.isfile(path):
        raise MissingDataError(path, expected=expected, found="nothing", fix="check the path")
    return [path]


def _plain_suffix(path: Path) -> str | None:
    suffixes = [suffix.lower() for suffix in path.suffixes]
    if suffixes and suffixes[-1] in (".gz", ".zst"):
        suffixes.pop()
    known = (*_JSON_SUFFIXES, *_CSV_SUFFIXES, *PARQUET_SUFFIXES)
    return suffixes[-1] if suffixes and suffixes[-1] in known else None


def raw_rows(path: Path) -> Iterator[RawRow | BadRow]:
    """All rows of one file in order. The suffix decides the format: ``.jsonl .json .ndjson .csv .tsv`` (also with
    ``.gz`` or ``.zst``) or ``.parquet``.

    Raises:
      DataError: the file has another format (not Parquet, or a JSON array instead of lines).
      SettingError: the suffix is unknown.
    """
    suffix = _plain_suffix(path)
    if suffix in _JSON_SUFFIXES:
        return _json_rows(path)
    if suffix in _CSV_SUFFIXES:
        return csv_rows(path, lines(path), "\t" if suffix == ".tsv" else ",")
    if suffix in PARQUET_SUFFIXES:
        return parquet_rows(path)
    raise SettingError(
        path,
        expected="a name that ends in .jsonl, .json, .ndjson, .csv, .tsv (also with .gz or .zst) or .parquet",
        found=f"{path.name!r}",
        fix="rename the file to fit its format",
    )


def _json_rows(path: Path) -> Iterator[RawRow | BadRow]:
    first = True
    for line in lines(path):
        if isinstance(line, BadRow):
            yield line
            continue
        text, repairs = decode(line)
        if first and text.lstrip().startswith("["):
            raise DataError(
                path,
                expected="one JSON object per line",
                found="a JSON array",
                fix=f"jq -c '.[]' {path.name} > {path.stem}.jsonl",
            )
        first = False
        yield RawRow(lambda text=text: _parse_json(text), repairs)


def _parse_json(text: str) -> Mapping[str, Any] | BadRow:
    if not text.strip():
        return BadRow(EMPTY_LINE)
    try:
        row = parse(text, lone_surrogates=True)
    except UntrustedJsonError as error:
        # Early Amazon dumps have Python literals instead of JSON.
        if not re.match(r"\s*\{\s*u?'", text):
            return BadRow(error.reason)
        try:
            row = parse_literal(text)
        except UntrustedJsonError as literal_error:
            return BadRow(literal_error.reason)
    return row if isinstance(row, dict) else BadRow("JSON, but no object")
