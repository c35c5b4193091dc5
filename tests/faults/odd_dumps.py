"""Dumps with odd values but valid bytes of their format; damage.py makes the invalid ones."""

from __future__ import annotations

import csv
import gzip
import io
import json
import random
from collections.abc import Callable
from typing import Any

import pyarrow
import pyarrow.parquet
import zstandard

NAMES = ("id", "text", "stars", "category", "domain", "business_id", "extra")
GOOD = (
    "The soup number %d was warm and lovely.",
    "Table %d by the window had a friendly waiter.",
    "Laptop %d is slow.",
)

JSON = (
    *(
        "null",
        "true",
        "false",
        "0",
        "-0.0",
        "5",
        "6",
        "-1",
        "1e999",
        "-1e999",
        "NaN",
        "Infinity",
        "-Infinity",
        "1e-999",
    ),
    *(
        "1" + "0" * 400,
        "9" * 6000,
        "-" + "9" * 6000,
        "0." + "3" * 5000,
        "[]",
        "{}",
        '[["a", ["b"]], 3]',
        '{"a": {"b": 1}}',
    ),
    *(
        "[" * 900 + "]" * 900,
        '{"a":' * 900 + "1" + "}" * 900,
        "[" * 100_000 + "]" * 100_000,
        "[" * 100_000,
        '{"a":' * 5000,
    ),
    *(
        r'"\ud800"',
        r'"a \udfff\ud800 b"',
        r'"\u0000\u0001\u009f"',
        r'"\ufffe\uffff"',
        '"\ufeff"',
        '"\u202e"',
        '""',
        '"   "',
    ),
    *('"5' + " " * 40_000 + '"', '"' + " " * 40_000 + '5"', '"5 stars"', '"5/5"', '"4,5"', '"٤"', '"²"', '"1e5"'),
    *(
        '"' + "a" * 100_000 + '"',
        '"' + "e\u0301\u0316" * 20_000 + '"',
        '"' + "ﷺ" * 3000 + '"',
        '"=1+1"',
        '"[/x]"',
        '"<b>"',
    ),
    *(
        '"' + "a, " * 30_000 + '"',
        "[" + '"a",' * 5000 + '"b"]',
        '"\\u2028 \\u2029 \\u0085"',
        '"' + "a" * 5_000_000 + '"',
    ),
)
"""Odd values, written as in a line of JSON."""
BROKEN_JSON = (
    "",
    " ",
    "{",
    "}",
    "[1]",
    "null",
    '"text"',
    "{'text': 'a', []: 1}",
    '{"text" "a"}',
    '{"text": "a",}',
    "\x00",
    "nan",
)

LITERALS = (
    *(
        "None",
        "True",
        "1",
        "-1",
        "5.0",
        "1e999",
        "0x" + "f" * 6000,
        "9" * 6000,
        "1+2j",
        "b'bytes'",
        "{1, 2}",
        "...",
        "(1, 2)",
    ),
    *(
        "'\\ud800'",
        "'\\x00'",
        "'a' 'b'",
        "u'a'",
        "r'\\d'",
        "f'{1}'",
        "[" * 300 + "]" * 300,
        "(" * 900 + ")" * 900,
        "-" * 900 + "1",
    ),
    *(
        "__import__('os').system('touch owned')",
        "[].__class__",
        "lambda: 1",
        "1if 1else 2",
        "'" + "a" * 300_000 + "'",
        "{[]: 1}",
    ),
)

CELLS = (
    *(
        "",
        " ",
        "5",
        "-0",
        "1" * 6000,
        "nan",
        "a,b",
        "a\tb",
        'a "b" c',
        '"',
        '""',
        "a\nb",
        "a\r\nb",
        "a\rb",
        "\ufeff",
        "é",
        "[/x]",
    ),
    *(
        "5" + " " * 40_000,
        "x" * 200_000,
        "=1+1",
        "\u2028",
        "e\u0301" * 10_000,
        "a\n" * 400,
        "\x1b[31m",
        "x" * 4_500_000,
    ),
)


def _odd(rng: random.Random, oddities: tuple[str, ...]) -> str:
    """One of the odd values; long ones, which take most of the time, are rarer."""
    found = rng.choice(oddities)
    return found if len(found) < 50_000 or rng.random() < 0.1 else rng.choice(oddities)


def _good(rng: random.Random) -> dict[str, Any]:
    number = rng.randrange(10**6)
    return {
        "id": f"r{number}",
        "text": rng.choice(GOOD) % number,
        "stars": rng.randint(1, 5),
        "category": rng.choice(["Restaurants, Pizza", "Laptops"]),
        "domain": rng.choice(["restaurants", ""]),
        "business_id": f"b{number % 7}",
        "extra": number,
    }


def _json_line(rng: random.Random, oddities: tuple[str, ...], quote: Callable[[Any], str]) -> str:
    values = {name: quote(value) for name, value in _good(rng).items()}
    for _ in range(rng.choice((0, 1, 1, 2))):
        values[rng.choice(NAMES)] = _odd(rng, oddities)
    return "{" + ", ".join(f"{quote(name)}: {value}" for name, value in values.items()) + "}"


def json_lines(rng: random.Random, rows: int) -> bytes:
    """Lines of JSON; some are broken, and not all are in UTF-8."""
    lines = [rng.choice(BROKEN_JSON) if rng.random() < 0.1 else _json_line(rng, JSON, json.dumps) for _ in range(rows)]
    encodings = rng.choice((["utf-8"], ["utf-8", "cp1252"]))
    return b"".join(line.encode(rng.choice(encodings), "replace") + b"\n" for line in lines)


def literal_lines(rng: random.Random, rows: int) -> bytes:
    """Lines of Python literals, as in early dumps of Amazon's reviews."""
    return "".join(_json_line(rng, LITERALS, repr) + "\n" for _ in range(rows)).encode()


def csv_rows(rng: random.Random, rows: int, delimiter: str = ",") -> bytes:
    """Correctly quoted CSV with odd cells."""
    buffer = io.StringIO(newline="")
    # QUOTE_MINIMAL would leave a carriage return or a quote unquoted in some fields.
    writer = csv.writer(buffer, delimiter=delimiter, quoting=csv.QUOTE_ALL, lineterminator=rng.choice(["\n", "\r\n"]))
    writer.writerow(NAMES)
    for _ in range(rows):
        cells = [str(value) for value in _good(rng).values()]
        for _ in range(rng.choice((0, 1, 1, 2))):
            cells[rng.randrange(len(cells))] = _odd(rng, CELLS)
        writer.writerow(cells)
    return buffer.getvalue().encode()


def _int64(values: list[int], kind: pyarrow.DataType) -> pyarrow.Array:
    return pyarrow.array(values, pyarrow.int64()).view(kind)


def _parquet_column(rng: random.Random, rows: int) -> pyarrow.Array:
    extremes = [rng.choice([2**63 - 1, -(2**63), 0, 1, 10**15]) for _ in range(rows)]
    bad_utf8 = pyarrow.array([rng.choice([b"\xff\xfe", b"ok", b"\xed\xa0\x80"]) for _ in range(rows)], pyarrow.binary())
    return rng.choice(
        (
            lambda: pyarrow.nulls(rows),
            lambda: pyarrow.array([None] * rows, pyarrow.string()),
            lambda: pyarrow.array([rng.choice([True, False, None]) for _ in range(rows)]),
            lambda: pyarrow.array([rng.choice([float("nan"), float("inf"), -0.0, 4.5, 1e308]) for _ in range(rows)]),
            lambda: pyarrow.array(extremes, pyarrow.int64()),
            lambda: _int64(extremes, pyarrow.timestamp(rng.choice(["ms", "us", "ns"]), rng.choice([None, "UTC"]))),
            lambda: _int64(extremes, pyarrow.timestamp("us", "No/Such_Zone")),
            lambda: _int64(extremes, pyarrow.duration(rng.choice(["us", "ns"]))),
            lambda: pyarrow.array([rng.choice([2**31 - 1, -(2**31)])] * rows, pyarrow.int32()).view(pyarrow.date32()),
            lambda: pyarrow.StringArray.from_buffers(rows, *bad_utf8.buffers()[1:]),
            lambda: pyarrow.array([b"The soup was warm \xe9 and good."] * rows),
            lambda: pyarrow.array([["Restaurants", "Pizza"], None, []] * rows)[:rows],
            lambda: pyarrow.array([[["a"]], [[]]] * rows)[:rows],
            lambda: pyarrow.array([{"a": {"b": "The soup was warm and good."}}] * rows),
            lambda: pyarrow.array([[("a", 1)]] * rows, pyarrow.map_(pyarrow.string(), pyarrow.int64())),
            lambda: pyarrow.array(["x" * 300_000] * rows).dictionary_encode(),
            lambda: pyarrow.array(["The soup was warm and good."] * rows, pyarrow.large_string()),
            lambda: pyarrow.array([4] * rows, pyarrow.decimal128(38, 0)),
            lambda: pyarrow.array([{"t": value} for value in extremes], pyarrow.struct({"t": pyarrow.timestamp("ns")})),
        )
    )()


def parquet(rng: random.Random, rows: int) -> bytes:
    """Parquet with one or two columns of an odd type, in several row groups."""
    good = [_good(rng) for _ in range(rows)]
    columns = {name: pyarrow.array([row[name] for row in good]) for name in NAMES}
    for _ in range(rng.choice((0, 1, 1, 2))):
        columns[rng.choice(NAMES)] = _parquet_column(rng, rows)
    buffer = io.BytesIO()
    pyarrow.parquet.write_table(
        pyarrow.table(columns),
        buffer,
        row_group_size=rng.choice([4, 100]),
        compression=rng.choice(["snappy", "zstd", "gzip", "none"]),
        write_page_checksum=rng.random() < 0.5,
        use_dictionary=rng.random() < 0.7,
    )
    return buffer.getvalue()


def _gzipped(make: Callable[[random.Random, int], bytes]) -> Callable[[random.Random, int], bytes]:
    return lambda rng, rows: gzip.compress(make(rng, rows), 1, mtime=0)


def _zstd(make: Callable[[random.Random, int], bytes]) -> Callable[[random.Random, int], bytes]:
    # One frame only, because a file that is truncated exactly between two frames is valid.
    return lambda rng, rows: zstandard.ZstdCompressor(write_checksum=True).compress(make(rng, rows))


FORMATS: dict[str, Callable[[random.Random, int], bytes]] = {
    "dump.jsonl": json_lines,
    "dump.json": literal_lines,
    "dump.csv": csv_rows,
    "dump.tsv": lambda rng, rows: csv_rows(rng, rows, "\t"),
    "dump.parquet": parquet,
    "dump.jsonl.gz": _gzipped(json_lines),
    "dump.jsonl.zst": _zstd(json_lines),
    "dump.csv.gz": _gzipped(csv_rows),
    "dump.csv.zst": _zstd(csv_rows),
}
"""Functions that make a dump with a number of rows, by file name."""
