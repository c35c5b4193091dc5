"""Fingerprints, with which a resumed run notices other data of the same size."""

from __future__ import annotations

import json
import types
from pathlib import Path
from typing import Any

import pytest

from fsa_base import checksums
from fsa_jax.data import teacher_text
from fsa_jax.data.corpus_source import WHOLE, Ablation, CorpusSource
from fsa_jax.data.sources import FsaSource, TeacherTextSource
from t5x.data import position
from t5x.data.datasets import DatasetConfig


@pytest.fixture
def data_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("FSA_DATA_DIR", str(tmp_path))
    return tmp_path


def test_labelled_sentences_with_another_label(data_dir: Path):
    aspect = {"from": "4", "to": "9", "target": "bread", "category": None, "polarity": "positive"}
    sentence = {"ID": 7, "sentence": "The bread and the staff.", "aspects": [aspect]}
    folder = data_dir / "fsa" / "atsa" / "rest14"
    folder.mkdir(parents=True)
    for name in ("train", "dev"):
        (folder / f"{name}.json").write_text(json.dumps([sentence]))
    source = FsaSource("atsa/rest14")
    train, validation = source.fingerprint("train"), source.fingerprint("validation")
    (folder / "train.json").write_text(json.dumps([sentence | {"aspects": [aspect | {"polarity": "negative"}]}]))
    assert source.fingerprint("train") != train and source.num_input_examples("train") == 1
    assert source.fingerprint("validation") == validation


def test_teacher_text_with_another_answer(data_dir: Path):
    folder = data_dir / "teacher"
    folder.mkdir()
    file = folder / "reviews.jsonl"

    def write(answer: str, review: str = "Good") -> str:
        rows = [{"ID": f"r{n}", "Text": f"{review} {n}.", "x_response": f"I {answer} it."} for n in range(40)]
        file.write_text("".join(json.dumps(row) + "\n" for row in rows))
        assert teacher_text.files() == [file]
        return TeacherTextSource("rewriting").fingerprint("train")

    assert write("like") == write("like") != write("hate")
    assert write("like") != write("like", "GOOD!")


def test_another_corpus_or_ablation_of_it(data_dir: Path):
    root = data_dir / "corpus" / "sentiment_corpus"
    version = root / "analysis" / "1.0.0"
    version.mkdir(parents=True)
    (version / "dataset_info.json").write_text("{}")
    assert CorpusSource("analysis").fingerprint("train") is None  # as 528859f wrote it
    checksums.write(root)
    before = CorpusSource("analysis").fingerprint("train")
    assert before == CorpusSource("analysis", WHOLE).fingerprint("train") is not None
    assert CorpusSource("analysis", Ablation(size=10)).fingerprint("train") != before
    (version / "dataset_info.json").write_text("[]")
    checksums.write(root)
    assert CorpusSource("analysis").fingerprint("train") != before


def test_a_cache_with_other_numbers_of_tokens():
    def content(**statistics: int) -> str | None:
        task: Any = types.SimpleNamespace(get_cached_stats=lambda split: {"train": statistics}[split], source=None)
        return position._content(task, DatasetConfig("task", {}, "train", 8, True, 0, use_cached=True))

    assert content(examples=4, tokens=9) == content(tokens=9, examples=4) != content(examples=4, tokens=8)
