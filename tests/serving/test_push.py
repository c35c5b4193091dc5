"""Uploads to a stand-in for the Hugging Face Hub, and predictions with what was uploaded, with the real client."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from huggingface_hub import ModelCard, constants
from stand_in_hub import TOKEN, Repository, StandInHub, connected_hub

from fsa_base.errors import CheckpointError, SettingError
from fsa_jax.cli import main as cli
from fsa_jax.serving import Predictor
from fsa_jax.serving.export_check import Reference
from fsa_jax.serving.export_ct2 import export_ct2
from fsa_jax.serving.export_hf import Check, write_hf
from fsa_jax.serving.model_card import CARD, Card, write_card
from fsa_jax.serving.predict_file import predict_file
from fsa_jax.serving.push import push_to_hub
from fsa_jax.serving.student import Student, load_student


def fsa(*arguments: object) -> int:
    return cli.main([str(argument) for argument in arguments])


@pytest.fixture
def hub(tmp_path) -> Iterator[StandInHub]:
    with connected_hub(tmp_path / "cache") as server:
        yield server


@pytest.fixture(scope="module")
def student(checkpoint, vocabulary) -> Student:
    return load_student(checkpoint, vocabulary=vocabulary)


@pytest.fixture(scope="module")
def exports(student, texts, tmp_path_factory) -> dict[str, Path]:
    """The student in both formats. The Hugging Face export is written without its check, which needs PyTorch."""
    folder = tmp_path_factory.mktemp("exports")
    card = Card("student", repository="me/student")
    check = Check(texts[:4], "test", max_length=16)
    agreement = export_ct2(student, folder / "ct2", quantization="float32", check=check, card=card)
    (folder / "hf").mkdir()
    answers = Reference(student, check.sentences, check.max_length).answers
    write_hf(student, folder / "hf", "float32", answers)
    write_card(folder / "hf" / CARD, student, card, "transformers", "float32", agreement, "test")
    return {"ct2": folder / "ct2", "hf": folder / "hf"}


@pytest.fixture
def reviews(texts, tmp_path) -> Path:
    file = tmp_path / "reviews.txt"
    file.write_text("\n".join(texts))
    return file


def listed(folder: Path) -> dict[str, bytes]:
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


@pytest.mark.parametrize("format", ["ct2", "hf"])
def test_push_and_predict_of_the_hub_name_give_the_predictions_of_the_export(
    format, exports, hub, reviews, tmp_path, capsys, monkeypatch
):
    assert fsa("push", exports[format], "me/student") == 0
    commit = hub.repositories["models/me/student"].find("main")
    assert f"/me/student/commit/{commit}" in capsys.readouterr().out
    assert fsa("predict", exports[format], reviews, tmp_path / "local.jsonl") == 0
    assert fsa("predict", "me/student", reviews, tmp_path / "hub.jsonl") == 0
    assert f"model: hf://me/student@{commit}" in (printed := capsys.readouterr()).err
    assert TOKEN not in printed.out + printed.err
    assert (tmp_path / "hub.jsonl").read_bytes() == (tmp_path / "local.jsonl").read_bytes()
    for number, name in enumerate(("hf://me/student", f"me/student@{commit}", "me/student@main")):
        assert fsa("predict", name, reviews, tmp_path / f"{number}.jsonl") == 0
        assert (tmp_path / f"{number}.jsonl").read_bytes() == (tmp_path / "local.jsonl").read_bytes()
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    asked = len(hub.requests)
    assert fsa("predict", "me/student", reviews, tmp_path / "offline.jsonl") == 0
    assert (tmp_path / "offline.jsonl").read_bytes() == (tmp_path / "local.jsonl").read_bytes()
    assert len(hub.requests) == asked


def test_a_resumed_prediction_uses_the_commit_with_which_it_was_started(
    exports, hub, reviews, tmp_path, monkeypatch, capsys
):
    """Also if the repository has another commit by then, and the cache of the client was deleted."""
    push_to_hub(exports["ct2"], "me/student", private=True)
    repository = hub.repositories["models/me/student"]
    commit = repository.find("main")

    def stopped(*arguments, **options):
        class Stopped(Exception): ...

        rows = arguments[1]

        def some():
            yield next(rows)
            raise Stopped

        with pytest.raises(Stopped):
            predict_file(arguments[0], some(), *arguments[2:], **options)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("fsa_jax.serving.predict_file.predict_file", stopped)
        assert fsa("predict", "me/student", reviews, tmp_path / "out.jsonl") == 130
    noted = json.loads((tmp_path / ".out.jsonl.unfinished").read_text())["settings"]
    assert noted["model"] == f"hf://me/student@{commit}" and noted["model content"] == commit
    push_to_hub(exports["hf"], "me/student", private=True)
    assert repository.find("main") != commit
    shutil.rmtree(tmp_path / "cache")
    capsys.readouterr()
    assert fsa("predict", "me/student", reviews, tmp_path / "out.jsonl") == 0
    assert f"model: hf://me/student@{commit}" in capsys.readouterr().err
    assert fsa("predict", exports["ct2"], reviews, tmp_path / "local.jsonl") == 0
    assert (tmp_path / "out.jsonl").read_bytes() == (tmp_path / "local.jsonl").read_bytes()


def test_exactly_the_files_of_the_export_are_uploaded(exports, checkpoint, hub, tmp_path):
    out = tmp_path / "out"
    shutil.copytree(exports["hf"], out)
    (out / ".DS_Store").touch()
    push_to_hub(out, "me/student", private=True)
    repository = hub.repositories["models/me/student"]
    assert repository.private and repository.messages == ["A student exported by fsa_jax"]
    expected = listed(exports["hf"])
    assert repository.files == {**expected, ".gitattributes": b""}
    # Files of an earlier upload of such an export are deleted, others stay.
    repository.add({**repository.files, "model-00002-of-00002.safetensors": b"", "notes/x.safetensors": b"mine"}, "")
    push_to_hub(out, "me/student", private=True)
    assert repository.files == {**expected, ".gitattributes": b"", "notes/x.safetensors": b"mine"}
    (out / "notes.txt").write_text("mine")
    with pytest.raises(SettingError, match=r"other files \(notes.txt\)"):
        push_to_hub(out, "me/student", private=True)
    with pytest.raises(SettingError, match=r"a finished output.*nothing\n.*check the path"):
        push_to_hub(tmp_path / "nothing", "me/student", private=True)
    for run in (checkpoint, checkpoint.parent):
        with pytest.raises(SettingError, match=f"export it first: fsa export-hf {run} OUT"):
            push_to_hub(run, "me/student", private=True)


@pytest.mark.parametrize("step", ["create", "validate-yaml", "commit"])
def test_a_refused_upload_leaves_the_export_and_says_how_to_upload_later(
    step, checkpoint, vocabulary, hub, tmp_path, capsys
):
    hub.refused.add(step)
    out = tmp_path / "out"
    export = ["export-ct2", checkpoint, out, "--vocabulary", vocabulary, "--quantization", "float32"]
    assert fsa(*export, "--check_count", 2, "--push", "me/student") == 2
    printed = capsys.readouterr()
    assert f"fsa push {out} me/student" in printed.err and TOKEN not in printed.err
    assert f"written: {out}" in printed.out
    hub.refused.clear()
    assert fsa("push", out, "me/student") == 0
    assert set(hub.repositories["models/me/student"].files) - {".gitattributes"} == set(listed(out))


def test_without_a_login_nothing_is_uploaded(exports, tmp_path):
    with connected_hub(tmp_path / "cache", token=None) as server:
        with pytest.raises(CheckpointError, match=r"hf auth login[\s\S]*fsa push"):
            push_to_hub(exports["ct2"], "me/student", private=True)
        assert not server.repositories


@pytest.mark.parametrize("name", ["a name/with spaces", "../..", "me/-bad--name..", "me/a..b", "student", "me/x.git"])
def test_a_name_that_the_hub_refuses(name, exports, hub, checkpoint, tmp_path, capsys):
    push = (("push", exports["ct2"], name), ("export-ct2", checkpoint, tmp_path / "out", "--push", name))
    for command in push:
        assert fsa(*command) == 2
        said = capsys.readouterr().err
        assert "expected OWNER/NAME of letters" in said and repr(name) in said and "login" not in said
    with pytest.raises(SettingError, match="OWNER/NAME"):
        push_to_hub(exports["ct2"], name, private=True)
    assert not hub.requests


def test_a_hub_that_does_not_answer(exports, hub, monkeypatch):
    # Nothing listens on port 9.
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(CheckpointError, match=r"an answer[\s\S]*check the network.*fsa push .* me/student"):
        push_to_hub(exports["ct2"], "me/student", private=True)


def test_a_misspelt_path_names_both_readings(hub, reviews, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("runs/finetund@best", "runs/finetund@newest"):
        assert fsa("predict", name, reviews, "out.jsonl") == 2
        assert "runs/finetund: expected a run's MODEL_DIR" in capsys.readouterr().err
    assert not hub.requests
    assert fsa("predict", "runs/finetund", reviews, "out.jsonl") == 2
    assert "no such folder, and no repository of this name on the Hub" in capsys.readouterr().err
    assert fsa("predict", "hf://me/nothing", reviews, "out.jsonl") == 2
    error = capsys.readouterr().err
    assert "found no repository of this name on the Hub" in error and "hf auth login" in error
    hub.repositories["models/me/student"] = Repository(False)
    hub.repositories["models/me/student"].add({"pytorch_model.bin": b"", "modeling.py": b""}, "")
    assert fsa("predict", "me/student", reviews, "out.jsonl") == 2
    assert "only pytorch_model.bin" in capsys.readouterr().err
    assert fsa("predict", "me/student@v2", reviews, "out.jsonl") == 2
    assert "no such folder, and no revision v2 of the repository me/student" in capsys.readouterr().err
    assert not any("modeling.py" in request for request in hub.requests)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert fsa("predict", "me/other", reviews, "out.jsonl") == 2
    assert "no such folder, and neither" in capsys.readouterr().err
    for name in ("one/two/three", "../nothing", "runs/a..b"):
        assert fsa("predict", name, reviews, "out.jsonl") == 2
        assert "Hub" not in capsys.readouterr().err
    assert not list(tmp_path.glob("*out.jsonl*"))


def test_a_repository_is_imported_at_its_commit(exports, hub, vocabulary, tmp_path, capsys):
    """``fsa import-hf`` and ``fsa predict`` share one function for downloads."""
    push_to_hub(exports["hf"], "me/student", private=False)
    commit = hub.repositories["models/me/student"].find("main")
    options = ["--vocabulary", vocabulary]
    assert fsa("import-hf", "hf://me/student", tmp_path / "out", *options) == 0
    record = json.loads((tmp_path / "out" / "import.json").read_text())
    assert (record["source"], record["revision"]) == ("me/student", commit)
    assert fsa("import-hf", "me/student@main", tmp_path / "other", "--revision", "v2", *options) == 2
    assert "give one revision" in capsys.readouterr().err


def test_a_local_path_wins_over_a_repository(exports, hub, reviews, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shutil.copytree(exports["ct2"], "me/student")
    assert fsa("predict", "me/student", reviews, "out.jsonl") == 0
    assert not hub.requests


@pytest.mark.parametrize("format", ["ct2", "hf"])
def test_the_card_of_an_export_has_a_snippet_that_works_and_metadata_of_the_hub(format, exports, hub, capsys):
    card = ModelCard.load(exports[format] / CARD)
    front = card.data.to_dict()
    assert front["license"] == "apache-2.0" and front["pipeline_tag"] == "text2text-generation"
    assert front["library_name"] == {"ct2": "ctranslate2", "hf": "transformers"}[format]
    assert "base_model" not in front and "model-index" not in front and "datasets" not in front
    assert not re.search(r"not said|TODO|None|needed|\| *\|", card.text.replace("| | |", "")), card.text
    (snippet,) = re.findall(r"```python\n(.*?)```", card.text, re.DOTALL)
    assert "snapshot_download" not in snippet
    push_to_hub(exports[format], "me/student", private=True)
    if format == "ct2":  # The other one needs PyTorch: tests/parity/test_exports.py.
        exec(snippet, {})
        (expected,) = Predictor(exports[format], task="analysis").predict(re.findall(r'predict\(\["(.*)"\]\)', snippet))
        assert capsys.readouterr().out == expected.generated + "\n"
    compile(snippet, "README.md", "exec")
