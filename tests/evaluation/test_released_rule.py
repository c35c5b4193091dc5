"""Compares encoded targets, subsets and scores with those of the authors' code (tests/testdata/released_fsa.json)."""

from __future__ import annotations

import hashlib
import itertools
import json
from pathlib import Path

import pytest

from fsa_jax.data import benchmark_files
from fsa_jax.evaluation.released_rule import tuple_f1
from fsa_jax.evaluation.subsets import select
from fsa_jax.text.pairs import ACSA, ATSA

GOLDEN = json.loads((Path(__file__).parents[1] / "testdata" / "released_fsa.json").read_text())
CODECS = {"atsa": ATSA, "acsa": ACSA}
FILES = [(task, name) for task in CODECS for name in GOLDEN[task]]


def untied(encoded: str) -> str:
    """Sorts pairs with equal offsets, because the authors' code leaves them in the order of a hash set."""
    runs = itertools.groupby(encoded.split(" ; "), key=lambda part: part.split(" | ")[0])
    return " ; ".join(itertools.chain.from_iterable(sorted(run) for _, run in runs))


def digest(encoded: list[str]) -> str:
    return hashlib.sha256("\n".join(map(untied, encoded)).encode()).hexdigest()


def mangled(index: int, encoded: str) -> str:
    """A prediction with one of eight faults, chosen by its index in the file."""
    parts = encoded.split(" ; ")
    return [
        encoded,
        " ; ".join(parts[:-1]),
        " ; ".join([*parts, parts[0]]),
        encoded.replace("positive", "conflict", 1),
        f"{encoded} ; zzz | positive",
        f"{encoded} ; {encoded} | negative",
        "",
        encoded.upper(),
    ][index % 8]


@pytest.mark.parametrize(("task", "name"), FILES)
def test_encoded_targets_equal_the_released_code_s(task, name, real_data_dir):
    sentences = benchmark_files.load(real_data_dir / "fsa" / name)
    encoded = [CODECS[task].encode(sentence, order="released") for sentence in sentences]
    assert len(sentences) == GOLDEN[task][name]["sentences"]
    assert digest(encoded) == GOLDEN[task][name]["sha256"]
    assert not any(CODECS[task].unreadable(sentence) for sentence in sentences)


@pytest.mark.parametrize(("task", "name"), FILES)
def test_scores_equal_the_released_code_s(task, name, real_data_dir):
    codec = CODECS[task]
    gold, predicted = [], []
    for index, sentence in enumerate(benchmark_files.load(real_data_dir / "fsa" / name)):
        encoded = untied(codec.encode(sentence, order="released"))
        gold.append(codec.decode(encoded, sentence.text))
        predicted.append(codec.decode(mangled(index, encoded), sentence.text))
    scores = tuple_f1(gold, predicted)
    expected = GOLDEN[task][name]
    assert (scores.precision, scores.recall, scores.f1) == pytest.approx(
        (expected["precision"], expected["recall"], expected["f1"]), rel=1e-12
    )


@pytest.mark.parametrize("name", GOLDEN["subsets"])
def test_subsets_equal_the_released_code_s(name, real_data_dir):
    directory = real_data_dir / "fsa" / name
    sentences = benchmark_files.load(directory / "test.json") + benchmark_files.load(directory / "hard_test.json")
    counts = {subset: len(select(sentences, subset)) for subset in GOLDEN["subsets"][name]}
    assert counts == GOLDEN["subsets"][name]
