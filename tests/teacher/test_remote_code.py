"""Code in a model's repository runs only with ``--trust-remote-code``, and no command asks on standard input."""

from __future__ import annotations

import ast
import json
import pickle
import subprocess
import sys
from pathlib import Path

import pytest
from stored_rows import MODEL

from fsa_base.errors import SettingError, TeacherError
from fsa_jax.teacher.chat_template import TeacherTokenizer
from fsa_jax.teacher.vllm_sidecar import VllmSettings, resolve_revision

ROOT = Path(__file__).parents[2]
PLANTED = """
from pathlib import Path
from transformers import PreTrainedTokenizerFast
Path({marker!r}).touch()
class Planted(PreTrainedTokenizerFast):
    pass
"""


@pytest.fixture
def marker(tmp_path: Path) -> Path:
    """A file that the planted code creates when it runs."""
    return tmp_path / "ran"


@pytest.fixture
def planted(tmp_path: Path, marker: Path) -> Path:
    """A folder with a model whose tokenizer is a Python file."""
    from tokenizers import Tokenizer, models

    folder = tmp_path / "model"
    folder.mkdir()
    Tokenizer(models.WordLevel({"[UNK]": 0}, unk_token="[UNK]")).save(str(folder / "tokenizer.json"))
    (folder / "planted.py").write_text(PLANTED.format(marker=str(marker)))
    auto = {"AutoTokenizer": ["planted.Planted", "planted.Planted"]}
    settings = {"tokenizer_class": "Planted", "auto_map": auto, "chat_template": "{{ messages }}"}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    (folder / "config.json").write_text(json.dumps({"model_type": "planted", "auto_map": auto}))
    return folder


def estimate(planted: Path, tmp_path: Path, *options: str) -> subprocess.CompletedProcess[str]:
    source = tmp_path / "reviews.jsonl"
    source.write_text(json.dumps({"id": "r", "text": "lovely soup"}))
    command = [sys.executable, "-m", "fsa_jax.cli.main", "teach", str(source), str(tmp_path / "store"), MODEL]
    command += ["--endpoint", "http://127.0.0.1:1/v1", "--dry-run", "--tokenizer", str(planted), *options]
    return subprocess.run(command, input="y\ny\n", capture_output=True, text=True, timeout=300)


def test_a_tokenizer_runs_no_code_and_asks_nothing(planted: Path, marker: Path, tmp_path: Path):
    run = estimate(planted, tmp_path)
    assert not marker.exists(), run.stdout + run.stderr
    assert "[y/N]" not in run.stdout + run.stderr and "Traceback" not in run.stderr
    assert run.returncode in (0, 2)
    if run.returncode == 2:
        assert "--trust-remote-code" in run.stderr


def test_code_runs_where_it_is_asked_for(planted: Path, marker: Path):
    TeacherTokenizer(str(planted), trust_remote_code=True)
    assert marker.exists()


@pytest.mark.parametrize("content", [None, b"", b"\xff\x00", b"[" * 10_000, b'{"model": 7}'])
def test_a_damaged_tokenizer_is_refused(planted: Path, marker: Path, content: bytes | None):
    (planted / "tokenizer.json").unlink()
    if content is not None:
        (planted / "tokenizer.json").write_bytes(content)
    with pytest.raises(TeacherError):
        TeacherTokenizer(str(planted))
    assert not marker.exists()


@pytest.mark.parametrize("name", ["pytorch_model.bin", "consolidated.00.pth", "model.pt"])
def test_pickled_weights_are_refused_before_anything_loads_them(planted: Path, name: str):
    (planted / name).write_bytes(pickle.dumps({"weights": 1}))
    with pytest.raises(TeacherError, match=name):
        resolve_revision(str(planted), None)
    (planted / "model.safetensors").write_bytes(b"")
    assert resolve_revision(str(planted), None)


def test_engine_arguments_cannot_allow_remote_code():
    with pytest.raises(SettingError, match="--trust-remote-code"):
        VllmSettings(engine_args={"trust_remote_code": True})


def test_every_call_that_could_run_code_sets_trust_remote_code():
    """This covers code added later, too: without the argument, transformers asks on standard input."""
    calls = []
    for folder in ("fsa_jax", "runtime", "benchmarks"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            for node in ast.walk(ast.parse(path.read_text("utf-8"))):
                if isinstance(node, ast.Call) and ast.unparse(node.func).endswith(".from_pretrained"):
                    calls.append(f"{path.relative_to(ROOT)}:{node.lineno}")
                    assert any(keyword.arg == "trust_remote_code" for keyword in node.keywords), calls[-1]
    assert len(calls) >= 4
