"""CTranslate2 exports by the command: the same predictions, refused past the tolerance, nothing half-written."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from fsa_jax.cli import main as cli


def fsa(*arguments: object) -> int:
    return cli.main([str(argument) for argument in arguments])


def generated(file: Path) -> list[str]:
    return [json.loads(line)["generated"] for line in file.read_text().splitlines()]


@pytest.fixture(scope="module")
def exported(checkpoint, vocabulary, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("exported") / "float32"
    assert fsa("export-ct2", checkpoint, out, "--vocabulary", vocabulary, "--quantization", "float32") == 0
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


def test_int8_predictions_do_not_depend_on_the_batch_size(checkpoint, vocabulary, reviews, tmp_path):
    more = ["--vocabulary", vocabulary, "--tolerance", "1"]
    assert fsa("export-ct2", checkpoint, tmp_path / "int8", *more) == 0
    for size in (1, 5, 32):
        out = tmp_path / f"out{size}"
        assert fsa("predict", tmp_path / "int8", reviews, out, "--max_output_length", "8", "--batch_size", size) == 0
    assert generated(tmp_path / "out1") == generated(tmp_path / "out5") == generated(tmp_path / "out32")


def test_an_export_past_the_tolerance_is_refused_and_leaves_nothing(checkpoint, vocabulary, tmp_path, capsys):
    arguments = ["export-ct2", checkpoint, tmp_path / "out", "--vocabulary", vocabulary, "--tolerance", "1e-9"]
    assert fsa(*arguments) == 2
    assert "log-probability differs by" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_an_output_that_exists_is_not_touched(checkpoint, vocabulary, tmp_path, capsys):
    (tmp_path / "mine").write_text("mine")
    assert fsa("export-ct2", checkpoint, tmp_path, "--vocabulary", vocabulary) == 2
    assert "nothing is yet" in capsys.readouterr().err
    assert [file.name for file in tmp_path.iterdir()] == ["mine"]


def test_an_export_is_replaced_only_with_overwrite(checkpoint, vocabulary, tmp_path, capsys):
    out = tmp_path / "out"
    export = ["export-ct2", checkpoint, out, "--vocabulary", vocabulary, "--quantization", "float32"]
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
