"""``fsa export-ct2``: exports give the same predictions or are refused, and no incomplete output is left."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from fsa_jax.cli import main as cli
from fsa_jax.serving.ct2 import Ct2Generator


def fsa(*arguments: object) -> int:
    return cli.main([str(argument) for argument in arguments])


def generated(file: Path) -> list[str]:
    return [json.loads(line)["generated"] for line in file.read_text().splitlines()]


@pytest.fixture(scope="module")
def exported(checkpoint, vocabulary, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("exported") / "float32"
    few = ["--check_count", 24]
    assert fsa("export-ct2", checkpoint, out, "--vocabulary", vocabulary, "--quantization", "float32", *few) == 0
    return out


@pytest.fixture(scope="module")
def pairs(pairs_checkpoint, vocabulary, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("exported") / "int8"
    assert fsa("export-ct2", pairs_checkpoint, out, "--vocabulary", vocabulary, "--check_count", 40) == 0
    return out


@pytest.fixture
def reviews(texts, tmp_path) -> Path:
    file = tmp_path / "reviews.txt"
    file.write_text("\n".join(texts))
    return file


def test_both_engines_predict_the_same_whatever_the_batch_size(exported, checkpoint, vocabulary, reviews, tmp_path):
    settings = ["--max_output_length", "8", "--batch_size"]
    assert fsa("predict", checkpoint, reviews, tmp_path / "jax", "--vocabulary", vocabulary, *settings, 32) == 0
    for size in (1, 5, 32):
        assert fsa("predict", exported, reviews, tmp_path / f"ct2-{size}", *settings, size) == 0
        assert generated(tmp_path / f"ct2-{size}") == generated(tmp_path / "jax")


def test_empty_answers_stay_empty_with_ctranslate2(pairs_checkpoint, vocabulary, reviews, tmp_path, capsys):
    """CTranslate2 forbids an empty answer unless it is told not to."""
    for quantization in ("float32", "int8"):
        out = tmp_path / quantization
        export = ["export-ct2", pairs_checkpoint, out, "--vocabulary", vocabulary, "--quantization", quantization]
        assert fsa(*export, "--check_count", 24) == 0
        assert "the student answers pairs; 24 of 24 greedy outputs are the same" in capsys.readouterr().out
        assert fsa("predict", out, reviews, tmp_path / f"{quantization}.jsonl") == 0
    assert fsa("predict", pairs_checkpoint, reviews, tmp_path / "jax.jsonl", "--vocabulary", vocabulary) == 0
    expected = generated(tmp_path / "jax.jsonl")
    assert "" in expected and "food | positive" in expected
    assert generated(tmp_path / "float32.jsonl") == expected
    quantized = generated(tmp_path / "int8.jsonl")
    # int8 rounds differently on each kind of processor, so one of these near ties may turn over.
    kept = [answer for answer, exact in zip(quantized, expected, strict=True) if not exact]
    assert kept.count("") > 0.8 * len(kept)


def test_beam_search_gives_the_same_in_both_engines(pairs_checkpoint, vocabulary, reviews, tmp_path):
    """By default, CTranslate2 ends its search at the first finished outputs, also if one of them is empty."""
    export = ["export-ct2", pairs_checkpoint, tmp_path / "out", "--vocabulary", vocabulary, "--check_count", 8]
    assert fsa(*export, "--quantization", "float32") == 0
    settings = ["--beams", 3, "--max_output_length", 16]
    assert fsa("predict", tmp_path / "out", reviews, tmp_path / "ct2", *settings) == 0
    settings += ["--vocabulary", vocabulary]
    assert fsa("predict", pairs_checkpoint, reviews, tmp_path / "jax", *settings) == 0
    assert generated(tmp_path / "ct2") == generated(tmp_path / "jax")


def test_int8_predictions_do_not_depend_on_the_batch_size(pairs, reviews, tmp_path):
    for size in (1, 5, 32):
        assert fsa("predict", pairs, reviews, tmp_path / f"out{size}", "--batch_size", size) == 0
    assert generated(tmp_path / "out1") == generated(tmp_path / "out5") == generated(tmp_path / "out32")


@pytest.mark.parametrize(
    ("quantization", "message"),
    [("float32", "the same greedy outputs"), ("int8", "at least 95% of the outputs equal")],
)
def test_an_export_with_other_answers_is_refused_and_leaves_nothing(
    quantization, message, pairs_checkpoint, vocabulary, tmp_path, capsys, monkeypatch
):
    """A larger ``--tolerance`` does not make such an export acceptable."""
    search = Ct2Generator._search
    forbids = {"suppress_sequences": [["</s>"]]}
    monkeypatch.setattr(Ct2Generator, "_search", lambda *args, **more: search(*args, **more, **forbids))
    export = ["export-ct2", pairs_checkpoint, tmp_path / "out", "--vocabulary", vocabulary]
    assert fsa(*export, "--quantization", quantization, "--tolerance", 100, "--check_count", 24) == 2
    error = capsys.readouterr().err
    assert message in error and "the student answers pairs" in error
    assert list(tmp_path.iterdir()) == []


def test_an_export_past_the_tolerance_is_refused_and_leaves_nothing(checkpoint, vocabulary, tmp_path, capsys):
    arguments = ["export-ct2", checkpoint, tmp_path / "out", "--vocabulary", vocabulary, "--tolerance", "1e-9"]
    assert fsa(*arguments, "--check_count", 2) == 2
    assert "log-probability differs by" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_an_output_that_exists_is_not_touched(checkpoint, vocabulary, tmp_path, capsys):
    (tmp_path / "mine").write_text("mine")
    assert fsa("export-ct2", checkpoint, tmp_path, "--vocabulary", vocabulary) == 2
    assert "that does not exist" in capsys.readouterr().err
    assert [file.name for file in tmp_path.iterdir()] == ["mine"]


def test_an_export_is_replaced_only_with_overwrite(checkpoint, vocabulary, tmp_path, capsys):
    out = tmp_path / "out"
    export = ["export-ct2", checkpoint, out, "--vocabulary", vocabulary, "--quantization", "float32"]
    export += ["--check_count", 2]
    assert fsa(*export) == 0
    (out / "student.json").write_text("{}")
    assert fsa(*export) == 2
    assert "--overwrite" in capsys.readouterr().err and (out / "student.json").read_text() == "{}"
    assert fsa(*export, "--overwrite") == 0
    assert "float32" in (out / "student.json").read_text() and list(tmp_path.iterdir()) == [out]


def test_without_ctranslate2_the_error_says_what_installs_it(checkpoint, vocabulary, tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "ctranslate2", None)
    assert fsa("export-ct2", checkpoint, tmp_path / "out", "--vocabulary", vocabulary) == 2
    assert "pip install -r requirements.txt" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_without_pytorch_export_hf_says_what_installs_it(checkpoint, vocabulary, tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    assert fsa("export-hf", checkpoint, tmp_path / "out", "--vocabulary", vocabulary) == 2
    assert "pip install torch" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_prediction_with_ctranslate2_imports_neither_jax_nor_tensorflow_nor_pytorch(exported, reviews, tmp_path):
    code = (
        "import sys; from fsa_jax.cli.main import main; assert main(sys.argv[1:]) == 0; "
        "print([name for name in ('jax', 'tensorflow', 'torch') if name in sys.modules])"
    )
    command = [sys.executable, "-c", code, "predict", str(exported), str(reviews), str(tmp_path / "out")]
    run = subprocess.run(command, capture_output=True, text=True, check=True)
    assert run.stdout.splitlines()[-1] == "[]"
