"""FSA benchmark files with faults: refused with file and line, or all sentences and labels are read."""

from __future__ import annotations

import json
import random
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from campaign import Campaign
from damage import damaged

from fsa_base.errors import DataError
from fsa_jax.data import benchmark_files
from fsa_jax.synthetic.files import write_labelled
from fsa_jax.synthetic.world import SplitSizes

ODD: list[Any] = [
    *(None, True, False, 0, -1, 3, 10**12, 10**400, 0.5, float("nan"), float("inf")),
    *("", " ", "NULL", "positive", "7", "9" * 5000, "\ud800", "\0", "a" * 10_000, [], [1], [[]], {}, {"opinion": 3}),
]
DEEP = {"list": "[" * 3000 + "]" * 3000, "object": '{"a":' * 3000 + "1" + "}" * 3000, "open": "[" * 50_000}


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Small files of all variants: aspect terms and categories, with and without opinion words, hard and original."""
    folder = tmp_path_factory.mktemp("labels")
    write_labelled(folder, 0, SplitSizes(train=8, dev=6, test=6, hard_test=6))
    return sorted(folder.glob("fsa/*/*/*.json"))


def _change(rows: list, rng: random.Random) -> str:
    """Makes one change in parsed rows: an odd value, a missing key, an extra row and so on."""
    row = rng.choice(rows)
    node = row
    if row["aspects"] and rng.random() < 0.6:
        node = rng.choice(row["aspects"])
    key, value = rng.choice(sorted(node)), rng.choice(ODD)
    kind = rng.randrange(5)
    if kind == 0:
        del node[key]
        return f"no {key}"
    if kind == 1:
        rows.insert(rng.randrange(len(rows) + 1), value)
        return f"{str(value)[:20]!r} as a row"
    if kind == 2:
        rows.insert(0, dict(row))
        return "a row twice"
    if kind == 3:
        node["extra"] = value
        return f"extra {str(value)[:20]!r}"
    node[key] = value
    return f"{key} is {str(value)[:20]!r}"


def _fault(data: bytes, rng: random.Random) -> tuple[str, bytes]:
    kind = rng.randrange(8)
    if kind <= 2:
        return damaged(data, rng)
    text = data.decode("utf-8-sig")
    if kind <= 5:
        rows = json.loads(text)
        said = _change(rows, rng)
        return said, json.dumps(rows, indent=rng.choice([None, 1])).encode(rng.choice(["utf-8", "utf-8-sig"]))
    if kind == 6:
        name = rng.choice(sorted(DEEP))
        places = [match.end() for match in re.finditer(": ", text)]
        at = rng.choice(places)
        return f"deep {name} at {at}", (text[:at] + DEEP[name] + text[at:]).encode()
    encoding = rng.choice(["utf-16", "utf-32", "latin-1", "utf-8"])
    changed = text.replace("\n", "\r\n") if rng.random() < 0.5 else text.replace("}", "},", 1)
    return f"in {encoding}, other line ends or a comma", changed.encode(encoding, errors="replace")


def _require_all(file: Path, found: list) -> None:
    """Checks that every row and label that Python's json module reads was found."""
    rows = json.loads(file.read_bytes().decode("utf-8-sig"))
    expected = [(str(row.get("ID", number)), row["sentence"]) for number, row in enumerate(rows, 1)]
    assert [(sentence.id, sentence.text) for sentence in found] == expected
    for sentence, row in zip(found, rows, strict=True):
        labels = [(aspect.target, aspect.category, aspect.polarity) for aspect in sentence.aspects]
        assert labels == [
            (None if part["target"] == "NULL" else part["target"], part.get("category"), part["polarity"])
            for part in row["aspects"]
        ]
        sentence.model_dump_json().encode()


def test_faults_labels(
    campaign: Campaign, cases: Callable[[int, int], int], rng: random.Random, files: list[Path], tmp_path: Path
) -> None:
    for number in range(cases(200, 2500)):
        source = rng.choice(files)
        said, data = _fault(source.read_bytes(), rng)
        file = tmp_path / source.name
        file.write_bytes(data)

        def attempt(file: Path = file) -> str:
            try:
                found = benchmark_files.load(file)
            except DataError as error:
                place = r":[1-9]\d*( \(sentence [^\n]*\))?"
                assert re.fullmatch(re.escape(str(file)) + place, error.where), error.where
                assert len(str(error)) < 1500
                raise
            _require_all(file, found)
            return "every sentence"

        campaign.run(f"case {number}, {source.parent.name}/{source.name}: {said}", attempt)


def test_undamaged_files_are_read(files: list[Path]) -> None:
    assert len(files) == 16
    for file in files:
        _require_all(file, benchmark_files.load(file))
