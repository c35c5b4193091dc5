"""Nothing in a dump's content stops ``fsa sample`` or fills the memory."""

from __future__ import annotations

import gzip
import io
import json
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
import zstandard

from fsa_jax.cli.main import main
from fsa_jax.reviews.parquet_files import read_reviews
from fsa_jax.reviews.row_to_review import category_names
from fsa_jax.text.words import normalise

GOOD = [{"id": f"g{i}", "text": f"The table number {i} was clean and lovely.", "stars": 3.0} for i in range(5)]
OPTIONS = ("--stars-ratio", "null", "--language", "null", "--near-duplicates", "null", "--shortfall", "fill")


def sampled(path: Path, *options: str) -> dict:
    """Samples all rows of a dump, checks that the good ones are included, and returns the report."""
    output = path.parent / "out" / "reviews.parquet"
    assert main(["sample", str(path), str(output), "--size", "1000", *OPTIONS, *options]) == 0
    assert {row["id"] for row in GOOD} <= {review.id for review in read_reviews(output)}
    report = json.loads(output.with_suffix(".report.json").read_text("utf-8"))
    (file,) = report["files"].values()
    assert file["rows"] == sum(file["dropped"].values()) + file.get("kept", report["size"])
    return report


@pytest.mark.parametrize(
    "value",
    [
        *(
            "1" + "0" * 400,
            "9" * 6000,
            "NaN",
            "-Infinity",
            "-0.0",
            "true",
            "[]",
            "[[3]]",
            '{"a": 1}',
            r'"\ud800"',
            "1e999",
        ),
        *(
            "[" * 900 + "]" * 900,
            '{"a":' * 900 + "1" + "}" * 900,
            "[" * 100_000 + "]" * 100_000,
            '"5' + " " * 40_000 + '"',
        ),
    ],
    ids=lambda value: value[:12],
)
def test_odd_values_of_any_field_are_dropped_or_cleaned(tmp_path: Path, value: str) -> None:
    path = tmp_path / "dump.jsonl"
    lines = [json.dumps(row) for row in GOOD]
    for name in ("id", "text", "stars", "category", "domain", "business_id", "extra"):
        row = {"id": f"odd {name}", "text": f"A text with an odd {name} here.", "stars": 3}
        row.pop(name, None)
        lines.append(json.dumps(row)[:-1] + f', "{name}": {value}}}')
    path.write_text("\n".join(lines), encoding="utf-8")
    began = time.monotonic()
    report = sampled(path)
    assert report["files"][str(path)]["rows"] == 12
    assert time.monotonic() - began < 60


@pytest.mark.parametrize(
    "line",
    ["{'text': 'a', []: 1}", "{'id': 0x" + "f" * 6000 + ", 'text': 'a good text'}", "{'id': " + "9" * 6000 + "}"],
    ids=["list as key", "hexadecimal", "digits"],
)
def test_odd_python_literals_are_dropped(tmp_path: Path, line: str) -> None:
    path = tmp_path / "dump.jsonl"
    path.write_text("\n".join([*(repr(row) for row in GOOD), line]))
    assert sum(sampled(path)["files"][str(path)]["dropped"].values()) == 1


def test_extreme_dates_in_parquet_lose_no_row(tmp_path: Path) -> None:
    extremes = pyarrow.array([2**63 - 1, -(2**63), 0, 1, 2], pyarrow.int64())
    table = pyarrow.Table.from_pylist(GOOD)
    for unit in ("ms", "us", "ns"):
        table = table.append_column(f"date_{unit}", extremes.view(pyarrow.timestamp(unit)))
    table = table.append_column("zone", extremes.view(pyarrow.timestamp("us", "No/Such_Zone")))
    path = tmp_path / "dump.parquet"
    pyarrow.parquet.write_table(table, path)
    assert sampled(path)["size"] == 5


def test_a_damaged_row_group_is_counted_and_the_others_are_read(tmp_path: Path) -> None:
    rows = [*GOOD, *({"id": f"o{i}", "text": f"Another table, number {i}, was nice.", "stars": 3.0} for i in range(15))]
    buffer = io.BytesIO()
    pyarrow.parquet.write_table(
        pyarrow.Table.from_pylist(rows), buffer, row_group_size=5, compression="zstd", write_page_checksum=True
    )
    content = bytearray(buffer.getvalue())
    at = pyarrow.parquet.ParquetFile(buffer).metadata.row_group(2).column(1)
    middle = at.dictionary_page_offset + at.total_compressed_size // 2
    content[middle] ^= 0xFF
    path = tmp_path / "dump.parquet"
    path.write_bytes(content)
    report = sampled(path)
    assert report["files"][str(path)]["dropped"] == {"Parquet row group is damaged": 5} and report["size"] == 15


@pytest.mark.parametrize("name", ["dump.jsonl.gz", "dump.jsonl.zst"])
@pytest.mark.parametrize("damage", ["cut off", "garbage at its end", "a byte of its text"])
def test_damaged_archives_are_reported(tmp_path: Path, name: str, damage: str) -> None:
    rng = np.random.default_rng(0)
    others = [{"id": f"o{i}", "text": f"Another table {rng.bytes(40).hex()}.", "stars": 3.0} for i in range(3000)]
    text = "".join(json.dumps(row) + "\n" for row in [*GOOD, *others]).encode()
    compressor = zstandard.ZstdCompressor(write_checksum=True)
    content = gzip.compress(text) if name.endswith(".gz") else compressor.compress(text)
    if damage == "cut off":
        content = content[: len(content) * 9 // 10]
    elif damage == "garbage at its end":
        content += b"garbage"
    else:
        half = len(content) // 2
        content = content[:half] + bytes([content[half] ^ 1]) + content[half + 1 :]
    path = tmp_path / name
    path.write_bytes(content)
    report = sampled(path, "--size", "10000")
    assert any("compressed file" in reason for reason in report["files"][str(path)]["dropped"])


def test_text_made_to_be_slow_takes_linear_time() -> None:
    for text in ("a" + "\u0301\u0316" * 100_000, "a, " * 500_000, "[" * 500_000):
        began = time.thread_time()
        normalise(text)
        category_names([[text]] * 3)
        assert time.thread_time() - began < 10


def memory_gib(code: str, *arguments: object) -> float:
    """Peak memory of a new process that runs the code, minus its memory after the imports."""
    program = textwrap.dedent(
        """
        import pathlib, resource, sys
        from fsa_jax.cli.main import main
        from fsa_jax.reviews.dump_rows import raw_rows
        import fsa_base.errors, fsa_jax.reviews.sample, fsa_jax.reviews.source, pyarrow.parquet
        peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        before = peak()
        """
    )
    run = subprocess.run(
        [sys.executable, "-c", f"{program}\n{textwrap.dedent(code)}\nprint(peak() - before)", *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert run.returncode == 0, run.stderr
    return int(run.stdout.splitlines()[-1]) / 2**20


READ = """
for path in sys.argv[1:]:
    for raw in raw_rows(pathlib.Path(path)):
        getattr(raw, "parse", int)()
"""


def test_highly_compressed_parquet_takes_little_memory(tmp_path: Path) -> None:
    """Version 528859f decoded 1,024 rows at a time, here a gigabyte; now it decodes 64 MiB or 32 rows at a time."""
    path = tmp_path / "dump.parquet"
    text = pyarrow.array(["x" * 1_000_000]).dictionary_encode().dictionary
    column = pyarrow.DictionaryArray.from_arrays(pyarrow.array([0] * 600, pyarrow.int32()), text)
    schema = pyarrow.schema([("text", pyarrow.string())])
    with pyarrow.parquet.ParquetWriter(path, pyarrow.schema([("text", column.type)]), store_schema=False) as writer:
        writer.write_table(pyarrow.table({"text": column}))
    assert pyarrow.parquet.read_schema(path) == schema and path.stat().st_size < 2_000_000
    assert memory_gib(READ, path) < 0.3


def test_lines_without_end_take_little_memory(tmp_path: Path) -> None:
    line = b'{"text": "' + b"x" * 200_000_000
    contents = {
        "dump.jsonl": line,
        "dump.jsonl.gz": gzip.compress(line, 1),
        "dump.csv.zst": zstandard.compress(b"text,stars\n" + line),
    }
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
    assert memory_gib(READ, *map(tmp_path.joinpath, contents)) < 0.2


def test_a_size_beyond_any_dump_takes_no_memory(tmp_path: Path) -> None:
    path, output = tmp_path / "dump.jsonl", tmp_path / "out.parquet"
    path.write_text("\n".join(map(json.dumps, GOOD)))
    options = [*OPTIONS, "--size", "1000000000000"]
    assert memory_gib("assert main(['sample', *sys.argv[1:]]) == 0", path, output, *options) < 0.3
    assert len(list(read_reviews(output))) == 5


def test_searching_for_columns_keeps_one_row_in_memory(tmp_path: Path) -> None:
    path = tmp_path / "dump.jsonl.zst"
    with zstandard.open(path, "wb") as file:
        for _ in range(80):
            file.write(b'{"body": "' + b"x" * 3_900_000 + b'"}\n')
    code = """
    from fsa_jax.reviews.row_to_review import Fields
    from fsa_jax.reviews.filters import Filters
    from fsa_jax.reviews.source import ReviewReader, Source
    fields = Fields({"text": "body", "stars": "none such"})
    try:
        ReviewReader(fields, Filters(1, 10**9, None), None, {}).parts([Source(sys.argv[1])])
    except fsa_base.errors.SettingError as error:
        assert "none such" in str(error)
    """
    assert memory_gib(code, path) < 0.2
